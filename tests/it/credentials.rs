//! Promise: a login that works is not given up for one that no broker has accepted, whatever else keeps the topic from
//! being ready, and whyever a producer has to be made anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use recording_bridge::clock::SystemClock;
use recording_bridge::delivery::{self, Delivery, Spools, window};
use recording_bridge::event::Timestamp;
use recording_bridge::kafka::{
    Delivered, Look, Observer, ProbeError, Producer, Producers, Purpose, Report, SendError, StartError,
};
use recording_bridge::message::Message;
use recording_bridge::metrics::Metrics;

use crate::support::faulty_storage::FaultyStorage;
use crate::support::spool::frame;
use crate::support_app::eventually;

/// Brokers that take every message of the login that began, while one partition has no leader.
#[derive(Clone, Default)]
struct Brokers {
    /// The file holds another password.
    is_changed: Arc<AtomicBool>,
    /// Which the brokers accept.
    is_accepted: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    trials: Arc<AtomicU64>,
}

struct Login {
    brokers: Brokers,
    is_new: bool,
    generation: u64,
    observer: Arc<dyn Observer>,
}

impl Producer for Login {
    fn send(&self, token: u64, _message: &Message) -> Result<(), SendError> {
        if !self.is_new || self.brokers.is_accepted.load(Ordering::SeqCst) {
            let (observer, generation) = (Arc::clone(&self.observer), self.generation);
            // The gate is held by whoever sends.
            thread::spawn(move || observer.report(Report { generation, token, outcome: Ok(Delivered::new(0, 0)) }));
        }
        Ok(())
    }

    fn probe(&self, _deadline: Duration) -> Result<(), ProbeError> {
        match (self.is_new, self.brokers.is_accepted.load(Ordering::SeqCst)) {
            (true, false) => Err(ProbeError::Unreachable("the login is refused".to_owned())),
            (true, true) => Ok(()),
            (false, _) => Err(ProbeError::Leaderless { partitions: 12, leaderless: 1 }),
        }
    }

    fn close(self: Arc<Self>) {}
}

impl Brokers {
    fn login(&self, is_new: bool, generation: u64, observer: Arc<dyn Observer>) -> Arc<dyn Producer> {
        Arc::new(Login { brokers: self.clone(), is_new, generation, observer })
    }
}

impl Producers for Brokers {
    fn check(&self) -> Result<(), StartError> {
        Ok(())
    }

    fn look(&self) -> Look {
        Look::Usable(self.is_changed.load(Ordering::SeqCst).into())
    }

    fn revision(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }

    fn take(&self, revision: u64) {
        self.taken.store(revision, Ordering::SeqCst);
    }

    fn trial(&self, observer: Arc<dyn Observer>) -> Result<Arc<dyn Producer>, StartError> {
        self.trials.fetch_add(1, Ordering::SeqCst);
        Ok(self.login(self.is_changed.load(Ordering::SeqCst), 0, observer))
    }

    fn start(&self, generation: u64, _: Purpose, observer: Arc<dyn Observer>) -> Result<Arc<dyn Producer>, StartError> {
        Ok(self.login(self.revision() == 1, generation, observer))
    }
}

#[test]
fn a_login_that_works_stays_until_brokers_accept_the_new_one_also_while_a_partition_has_no_leader() {
    let brokers = Brokers::default();
    let settings = delivery::Config {
        ack_deadline: Duration::from_secs(5),
        watchdog: Duration::from_mins(1),
        repeats: window::Config::default(),
    };
    let metrics = Arc::new(Metrics::new(&[], &[], ""));
    let no_spool: Option<Spools<FaultyStorage>> = None;
    let clock = Arc::new(SystemClock);
    let delivery =
        Delivery::start(Box::new(brokers.clone()), None, no_spool, Arc::clone(&metrics), clock, settings).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let accepted_at = Timestamp::from_seconds(0, 0).unwrap();
    let number = AtomicU64::new(1);
    let deliver = || {
        let message = frame(number.fetch_add(1, Ordering::SeqCst), 1, 20).message;
        runtime.block_on(delivery.deliver(message, accepted_at)).map(drop)
    };
    let shown = |line: &str| {
        let page = String::from_utf8(metrics.render()).unwrap();
        page.lines().any(|found| found == format!("recording_bridge_kafka_{line}"))
    };
    assert_eq!(deliver(), Ok(()));

    brokers.is_changed.store(true, Ordering::SeqCst);
    delivery.look_at_credentials();
    eventually("the new login is tried", || brokers.trials.load(Ordering::SeqCst) > 0);
    eventually("it is shown that nobody takes it", || shown("credentials{state=\"refused\"} 1"));
    for _ in 0..5 {
        assert_eq!(deliver(), Ok(()));
    }
    assert!(shown("credential_changes_total{result=\"taken\"} 0"));
    assert_eq!(brokers.revision(), 0);

    brokers.is_accepted.store(true, Ordering::SeqCst);
    delivery.look_at_credentials();
    eventually("the new login is taken", || shown("credential_changes_total{result=\"taken\"} 1"));
    assert_eq!(brokers.revision(), 1);
    eventually("events pass with it", || deliver() == Ok(()));
    delivery.stop(Duration::ZERO, || true);
}
