//! Promise: a clock that differs from the sender's is seen while it does no harm yet, and also where it makes the bridge
//! refuse everything; and nobody without a key can hide it.

#![expect(clippy::float_cmp, reason = "counters are whole numbers, which floats hold exactly")]

use recording_bridge::callback::Scope;

use crate::support_app::{
    Broker, KEY, Program, ask, body_signed, config_file, epoch_seconds, eventually, facts, post, signature,
    without_date,
};

const QUICK: &str = "shutdown: {drain_delay: 0s, grace: 20s}\n";
/// How far a slow machine may be behind.
const SLACK: f64 = 45.0;

/// A callback that a sender signs whose clock is `ahead` seconds before ours.
fn signed_ahead(key: &str, ahead: i64) -> String {
    let t = (epoch_seconds() + ahead + 600).to_string();
    format!(r#"{{{},"t":{t},"sign":"{}"}}"#, facts("clock"), signature(key, &t))
}

struct Served {
    program: Program,
    _broker: Broker,
    _folder: tempfile::TempDir,
}

impl Served {
    fn start() -> Self {
        let (broker, folder) = (Broker::start(), tempfile::tempdir().expect("a folder"));
        let config = config_file(folder.path(), &broker.address(), &[("live", KEY, Scope::default())], QUICK);
        let program = Program::serve(&config);
        program.ready();
        Self { program, _broker: broker, _folder: folder }
    }

    /// Status and text of the answer.
    fn post(&self, body: &str) -> (u16, String) {
        let answer = ask(self.program.address("callbacks"), post(body));
        (answer.status(), without_date(&answer.0))
    }

    fn offset(&self) -> f64 {
        self.program.metric("clock_offset_seconds")
    }

    fn comes_to(&self, expected: f64) {
        let near = || (self.offset() - expected).abs() < SLACK;
        eventually(&format!("an offset of {expected}, and not {}", self.offset()), near);
    }

    fn untimely(&self, reason: &str) -> f64 {
        self.program.metric(&format!("untimely_callbacks_total{{key=\"live\",reason=\"{reason}\"}}"))
    }
}

#[test]
fn a_clock_that_is_far_ahead_is_seen_although_everything_is_refused() {
    let served = Served::start();
    assert!(served.offset().is_nan(), "nothing is known yet");
    let refused = served.post(&signed_ahead(KEY, -1800));
    assert_eq!(refused.0, 403);
    assert_eq!(served.untimely("expired"), 1.0);
    // A stranger is told the same, and counts for nothing.
    assert_eq!(served.post(&signed_ahead("aKeyThatNobodyHasEver", -1700)), refused);
    assert_eq!(served.untimely("expired"), 1.0);
    served.comes_to(1800.0);
    served.program.says("our clock is ahead of the sender's");
    let log = served.program.log();
    assert!(log.contains("\"refuses_all_from\":1020") && log.contains("\"refuses_late_retries_from\":60"), "{log}");
    // The least age counts. What was signed long ago, and is sent again, neither hides it nor adds to it.
    assert_eq!(served.post(&signed_ahead(KEY, -1500)).0, 403);
    assert_eq!(served.post(&signed_ahead(KEY, -90_000)).0, 403);
    assert_eq!(served.untimely("expired"), 3.0);
    served.comes_to(1500.0);
    // The first fresh callback settles it.
    assert_eq!(served.post(&body_signed("fresh", KEY)).0, 200);
    served.comes_to(0.0);
    served.program.says("our clock agrees with the sender's again");
    assert_eq!(served.program.log().matches("our clock is ahead").count(), 1, "{}", served.program.log());
}

#[test]
fn a_clock_that_is_behind_is_seen_before_and_after_it_refuses() {
    let served = Served::start();
    assert_eq!(served.post(&signed_ahead(KEY, 90)).0, 200);
    served.comes_to(-90.0);
    served.program.says("our clock is behind the sender's");
    assert!(served.program.log().contains("\"refuses_all_from\":-120"), "{}", served.program.log());
    assert_eq!(served.post(&signed_ahead(KEY, 900)).0, 403);
    assert_eq!(served.untimely("too_far_ahead"), 1.0);
    served.comes_to(-900.0);
}
