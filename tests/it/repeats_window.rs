//! Promise: the window of repeats does what a plain list would do, never takes more than it was given, and what it
//! calls safe was settled as safe and not forgotten since.

use std::process::Command;
use std::time::Duration;

use proptest::prelude::*;
use recording_bridge::delivery::window::{Claim, Config, Proof, Recalled, Stretch, Window};
use recording_bridge::message::Identity;

const PERIOD: Duration = Duration::from_secs(3);
const EVENTS: u128 = 4;
const VERSIONS: u128 = 6;
/// Versions of one event that are remembered.
const VERSIONS_MAX: usize = 4;

/// On Kafka, or on the frame with this number. It is as large as the real proof, or the memory would not be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Kafka(u32),
    Frame(u64),
}

impl Proof for Kept {
    fn frame(&self) -> Option<u64> {
        match self {
            Self::Kafka(_) => None,
            Self::Frame(frame) => Some(*frame),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Arrive(u128, u128),
    /// Ends one of the deliveries under way: safe in Kafka, safe in the spool, or not safe.
    Settle(usize, Option<bool>),
    /// Ends one that has ended before.
    SettleAgain(usize),
    Forget(u64, Option<u64>),
    Pass(u64),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..EVENTS, 0..VERSIONS).prop_map(|(event, version)| Step::Arrive(event, version)),
        6 => (any::<usize>(), prop_oneof![Just(Some(true)), Just(Some(false)), Just(None)])
            .prop_map(|(claim, outcome)| Step::Settle(claim, outcome)),
        1 => any::<usize>().prop_map(Step::SettleAgain),
        1 => (0..40u64, prop_oneof![Just(None), (0..40u64).prop_map(Some)])
            .prop_map(|(after, before)| Step::Forget(after, before)),
        3 => (0..2_500u64).prop_map(Step::Pass),
        1 => Just(Step::Sweep),
    ]
}

struct Entry {
    identity: Identity,
    sequence: u64,
    /// Once it is safe: its proof, and the second.
    safe: Option<(Kept, u64)>,
}

/// The window as a list, in the order in which entries became safe, those in flight at the end.
#[derive(Default)]
struct Model {
    entries: Vec<Entry>,
    complete_since: u64,
}

impl Model {
    fn is_expired(entry: &Entry, second: u64) -> bool {
        entry.safe.is_some_and(|(_, since)| second - since > PERIOD.as_secs())
    }

    fn recall(&self, identity: Identity, second: u64) -> Option<Known> {
        let same = |entry: &&Entry| entry.identity.event_id == identity.event_id && !Self::is_expired(entry, second);
        let of_event = || self.entries.iter().filter(same);
        match of_event().find(|entry| entry.identity == identity) {
            Some(entry) => Some(entry.safe.map_or(Known::InFlight(entry.sequence), |(kept, _)| Known::Safe(kept))),
            None => of_event().max_by_key(|entry| entry.sequence).map(|entry| Known::Conflict(entry.identity.facts)),
        }
    }

    fn sweep(&mut self, second: u64, most: usize) {
        for _ in 0..most {
            if self.entries.first().is_some_and(|entry| Self::is_expired(entry, second)) {
                self.entries.remove(0);
            }
        }
    }

    fn claim(&mut self, identity: Identity, sequence: u64, second: u64, entries_max: usize) -> bool {
        self.sweep(second, 2);
        let versions = || self.entries.iter().filter(|entry| entry.identity.event_id == identity.event_id);
        if versions().count() >= VERSIONS_MAX {
            let oldest = versions().map(|entry| entry.sequence).min();
            self.entries.retain(|entry| Some(entry.sequence) != oldest);
        }
        if self.entries.len() >= entries_max {
            let Some((_, since)) = self.entries.first().and_then(|entry| entry.safe) else {
                self.complete_since = second + 1;
                return false;
            };
            self.complete_since = self.complete_since.max(since + 1);
            self.entries.remove(0);
        }
        self.entries.push(Entry { identity, sequence, safe: None });
        true
    }

    fn settle(&mut self, sequence: u64, outcome: Option<Kept>, second: u64) {
        let Some(at) = self.entries.iter().position(|entry| entry.sequence == sequence && entry.safe.is_none()) else {
            return;
        };
        let mut entry = self.entries.remove(at);
        if let Some(kept) = outcome {
            entry.safe = Some((kept, second));
            let safe = self.entries.iter().take_while(|entry| entry.safe.is_some()).count();
            self.entries.insert(safe, entry);
        }
    }

    fn forget(&mut self, after: u64, before: Option<u64>) -> usize {
        let count = self.entries.len();
        self.entries.retain(|entry| {
            let frame = entry.safe.map_or(Some(entry.sequence), |(kept, _)| kept.frame());
            !frame.is_some_and(|frame| frame > after && before.is_none_or(|before| frame < before))
        });
        count - self.entries.len()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Known {
    Conflict(u128),
    InFlight(u64),
    Safe(Kept),
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap()
}

fn known(recalled: Recalled<Kept>) -> Option<Known> {
    match recalled {
        Recalled::Unknown => None,
        Recalled::Conflict(facts) => Some(Known::Conflict(facts)),
        Recalled::InFlight(claim) => Some(Known::InFlight(claim.sequence())),
        Recalled::Safe(kept) => Some(Known::Safe(kept)),
    }
}

fn run(entries_max: usize, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut window = Window::new(Config { period: PERIOD, entries_max });
    let mut model = Model::default();
    let (mut open, mut ended): (Vec<Claim>, Vec<Claim>) = (Vec::new(), Vec::new());
    let (mut now, mut sequence) = (Duration::ZERO, 0);
    for step in steps {
        let second = now.as_secs();
        match *step {
            Step::Arrive(event_id, facts) => {
                let identity = Identity { event_id, facts };
                if matches!(window.recall(identity, now), Recalled::Unknown | Recalled::Conflict(_)) {
                    sequence += 1;
                    let claim = window.claim(identity, sequence, now);
                    prop_assert_eq!(claim.is_some(), model.claim(identity, sequence, second, entries_max));
                    open.extend(claim);
                }
            }
            Step::Settle(which, outcome) if !open.is_empty() => {
                let claim = open.swap_remove(which % open.len());
                let number = claim.sequence();
                let kept = outcome.map(|kafka| if kafka { Kept::Kafka(small(number)) } else { Kept::Frame(number) });
                window.settle(claim, kept, now);
                model.settle(number, kept, second);
                ended.push(claim);
            }
            Step::SettleAgain(which) if !ended.is_empty() => {
                window.settle(ended[which % ended.len()], Some(Kept::Kafka(0)), now);
            }
            Step::Settle(..) | Step::SettleAgain(_) => {}
            Step::Forget(after, before) => {
                prop_assert_eq!(window.forget(&[Stretch { after, before }]), model.forget(after, before));
            }
            Step::Pass(milliseconds) => now += Duration::from_millis(milliseconds),
            Step::Sweep => {
                window.sweep(now, 3);
                model.sweep(second, 3);
            }
        }
        prop_assert_eq!(window.len(), model.entries.len());
        prop_assert!(window.len() <= entries_max);
        let covered = now.saturating_sub(Duration::from_secs(model.complete_since)).min(PERIOD);
        prop_assert_eq!(window.covered(now), covered);
        for (event_id, facts) in (0..EVENTS).flat_map(|event| (0..VERSIONS).map(move |facts| (event, facts))) {
            let identity = Identity { event_id, facts };
            prop_assert_eq!(known(window.recall(identity, now)), model.recall(identity, now.as_secs()));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_window_does_what_a_list_would_do(
        entries_max in 1..12usize,
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        run(entries_max, &steps)?;
    }
}

fn identity(number: u64) -> Identity {
    Identity { event_id: number.into(), facts: u128::from(number) << 64 }
}

#[test]
fn a_repeat_is_known_for_the_period_and_not_much_longer() {
    let mut window = Window::new(Config { period: Duration::from_secs(1_200), entries_max: 10 });
    let settled = Duration::from_millis(5_900);
    let claim = window.claim(identity(1), 1, settled).unwrap();
    window.settle(claim, Some(Kept::Kafka(1)), settled);
    let recall = |after| window.recall(identity(1), settled + Duration::from_millis(after));
    assert_eq!(recall(1_200_000), Recalled::Safe(Kept::Kafka(1)));
    assert_eq!(recall(1_201_000), Recalled::Unknown);
}

#[test]
fn a_window_without_entries_knows_nothing() {
    let mut window: Window<Kept> = Window::new(Config { period: PERIOD, entries_max: 0 });
    assert_eq!(window.claim(identity(1), 1, PERIOD), None);
    assert_eq!(window.recall(identity(1), PERIOD), Recalled::Unknown);
    assert_eq!((window.len(), window.covered(PERIOD)), (0, Duration::ZERO));
}

#[test]
fn a_window_full_of_messages_in_flight_forgets_none_of_them() {
    let mut window: Window<Kept> = Window::new(Config { period: PERIOD, entries_max: 3 });
    let claims: Vec<_> = (1..=3).map(|number| window.claim(identity(number), number, PERIOD).unwrap()).collect();
    assert_eq!(window.claim(identity(4), 4, PERIOD), None);
    for claim in claims {
        assert_eq!(window.recall(identity(claim.sequence()), PERIOD), Recalled::InFlight(claim));
    }
}

#[test]
fn a_load_above_the_entries_shortens_the_cover_and_says_so() {
    let mut window = Window::new(Config { period: Duration::from_secs(1_200), entries_max: 1_000 });
    // Ten a second fill it in 100 s.
    for number in 0..20_000 {
        let now = Duration::from_millis(number * 100);
        let claim = window.claim(identity(number), number, now).unwrap();
        window.settle(claim, Some(Kept::Kafka(small(number))), now);
    }
    let covered = window.covered(Duration::from_secs(2_000)).as_secs();
    assert!((99..=100).contains(&covered), "{covered}");
}

/// Set for the process that is measured.
const MEASURED: &str = "RECORDING_BRIDGE_MEASURE_WINDOW";
/// The line in which that process tells the result.
const TELLS: &str = "resident bytes of a full window: ";

/// Resident memory of this process, its program not counted.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kibibytes * 1024
}

/// In a process of its own, since other tests take memory meanwhile.
#[test]
fn a_full_window_takes_some_four_megabytes() {
    if std::env::var_os(MEASURED).is_some() {
        let before = resident_bytes();
        let mut window = Window::new(Config::default());
        // Filled three times over, so that slots are used again.
        for number in 0..3 * 65_536 {
            let claim = window.claim(identity(number), number, PERIOD).unwrap();
            window.settle(claim, Some(Kept::Kafka(small(number))), PERIOD);
        }
        println!("{TELLS}{}", resident_bytes() - before);
        assert_eq!(window.len(), 65_536);
        return;
    }
    let name = format!("{}::a_full_window_takes_some_four_megabytes", module_path!().split_once("::").unwrap().1);
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", &name, "--nocapture"]).env(MEASURED, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let told = said.lines().find_map(|line| line.split_once(TELLS)).unwrap_or_else(|| panic!("{said}"));
    let bytes: u64 = told.1.trim().parse().unwrap();
    println!("a full window takes {bytes} B");
    assert!((4_000_000..5_000_000).contains(&bytes), "{bytes}");
}
