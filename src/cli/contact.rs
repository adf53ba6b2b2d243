//! The first contact of a command with the brokers: what they know of the cluster, or why they do not say.
//!
//! librdkafka tells the caller that a request failed, and only a callback why. Both are put together here: "broker
//! transport failure" helps nobody to find a wrong password.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::statistics::Statistics;

use super::terminal;
use crate::kafka::{Config, Contents, Trouble, diagnose_tls, settings};

/// How long each attempt waits. The first is short, so that a login that is refused is known soon; the last leaves
/// time to a cluster that is slow.
const ATTEMPTS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(6)];
/// For what librdkafka had to say meanwhile. With no time at all only one event would be heard.
const LISTENING: Duration = Duration::from_millis(50);
/// How often a sign of life is moved.
const TICK: Duration = Duration::from_millis(100);
/// Reasons that one sentence can bear: about one a broker.
const REASONS_MAX: usize = 4;

/// The metadata of the whole cluster. Blocks, for all attempts at most.
///
/// # Errors
/// A sentence that says why there is none.
pub(super) fn metadata(config: &Config) -> Result<Metadata, String> {
    let no_client = |error: String| format!("no Kafka client can be made: {error}");
    let contents = Contents::read(config).map_err(|error| no_client(error.to_string()))?;
    let settings = settings::connection(config, &contents);
    let client: BaseProducer<Troubles> =
        settings.create_with_context(Troubles::default()).map_err(|error| no_client(error.to_string()))?;
    let mut last = String::new();
    let spinner = terminal::spinner();
    spinner.set_message("asking the brokers");
    spinner.enable_steady_tick(TICK);
    for patience in ATTEMPTS {
        match client.client().fetch_metadata(None, patience) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => last = error.to_string(),
        }
        client.poll(LISTENING);
        if client.context().is_final() {
            break;
        }
    }
    spinner.finish_and_clear();
    Err(client.context().sentence(&contents, &last))
}

/// What librdkafka complained of.
#[derive(Default)]
struct Troubles(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    reasons: Vec<String>,
    /// The worst of them.
    trouble: Option<Trouble>,
    /// Every broker was tried.
    all_down: bool,
}

impl Troubles {
    fn is_final(&self) -> bool {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Where one side does not accept the other, trying again changes nothing.
        heard.trouble.is_some_and(Trouble::is_refusal) && heard.all_down
    }

    /// Why no broker answers and what to look at, and behind it librdkafka's own words, which are `last` if it had no
    /// other.
    fn sentence(&self, contents: &Contents, last: &str) -> String {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reasons = if heard.reasons.is_empty() { last.to_owned() } else { heard.reasons.join("; ") };
        let advice = match heard.trouble {
            Some(Trouble::Tls) => {
                let cause = heard.reasons.iter().find_map(|reason| diagnose_tls(reason, contents));
                cause.map_or_else(|| Trouble::Tls.sentence().to_owned(), |cause| format!("no TLS with one: {cause}"))
            }
            Some(found @ (Trouble::Authentication | Trouble::Name)) => found.sentence().to_owned(),
            None | Some(Trouble::Connection | Trouble::Other) => {
                "see that they run, that kafka.brokers names them, and that nothing between here and them blocks the port"
                    .to_owned()
            }
        };
        format!("no broker answers: {advice}; the client says: {reasons}")
    }
}

impl ClientContext for Troubles {
    /// Every complaint comes as an error too.
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _text: &str) {}

    fn stats(&self, _statistics: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = Trouble::of(&error, reason) else {
            heard.all_down = true;
            return;
        };
        if !heard.trouble.is_some_and(Trouble::is_refusal) {
            heard.trouble = Some(found);
        }
        // What follows differs from time to time: "(after 2ms in state CONNECT, 1 identical error(s) suppressed)".
        let reason = reason.split(" (after ").next().unwrap_or(reason);
        if heard.reasons.len() < REASONS_MAX && !heard.reasons.iter().any(|known| known == reason) {
            heard.reasons.push(reason.to_owned());
        }
    }
}

impl ProducerContext for Troubles {
    type DeliveryOpaque = ();

    /// Nothing is ever sent.
    fn delivery(&self, _result: &DeliveryResult<'_>, _opaque: ()) {}
}
