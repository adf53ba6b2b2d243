//! The first contact of a command with the brokers: what they know of the cluster, or why they do not say.
//!
//! librdkafka tells the caller that a request failed, and only a callback why. Both are put together here: "broker
//! transport failure" helps nobody to find a wrong password.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::statistics::Statistics;

use crate::kafka::{Config, Contents, settings};

/// How long each attempt waits. The first is short, so that a login that is refused is known soon; the last leaves
/// time to a cluster that is slow.
const ATTEMPTS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(6)];
/// For what librdkafka had to say meanwhile. With no time at all only one event would be heard.
const LISTENING: Duration = Duration::from_millis(50);
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
    Err(format!("no broker answers: {}", client.context().reasons().unwrap_or(last)))
}

/// What librdkafka complained of.
#[derive(Default)]
struct Troubles(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    reasons: Vec<String>,
    /// A broker did not accept us, or we did not accept it: trying again changes nothing.
    refused: bool,
    /// Every broker was tried.
    all_down: bool,
}

impl Troubles {
    fn is_final(&self) -> bool {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.refused && heard.all_down
    }

    fn reasons(&self) -> Option<String> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!heard.reasons.is_empty()).then(|| heard.reasons.join("; "))
    }
}

impl ClientContext for Troubles {
    /// Every complaint comes as an error too.
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _text: &str) {}

    fn stats(&self, _statistics: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match error.rdkafka_error_code() {
            Some(Code::AllBrokersDown) => {
                heard.all_down = true;
                return;
            }
            Some(Code::Authentication | Code::SSL) => heard.refused = true,
            _ => {}
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
