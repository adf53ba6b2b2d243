//! Promise: whoever holds connections, heads, bodies or answers back, by the hundred or by the ten thousand, keeps
//! nobody out and nobody waiting: callbacks of others are answered as before, and what the crowd has taken is given
//! back. The real process, with its default limits where nothing else is said.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::bridge::{Bridge, KEY, PATH};
use crate::support::crowd::Crowd;
use crate::support::load::{Client, callback, seconds_now};
use crate::support::{unique, wait_for};
use crate::support_app::{Broker, TOPIC};

/// What half of the callbacks must keep, as far as the machine could do it before the attack.
const MEDIAN_MAX: Duration = Duration::from_millis(100);
/// A machine in peace keeps 99 of 100 below 100 ms by far. A busy one need not, so they may take this long, or
/// [`SLOWDOWN_MAX`] times as long as before the attack.
const SLOW_MAX: Duration = Duration::from_millis(500);
const SLOWDOWN_MAX: u32 = 10;
/// Whatever the machine: whoever is kept waiting by a connection of the attack, and not by a lack of processors, waits
/// for its deadline, 5 s at least. A first packet that finds the queue full is sent again after 1, 3 and 7 s.
const STARVED_MIN: Duration = Duration::from_secs(4);
const CONNECTIONS: u64 = 400;
/// Ten requests on every connection, the answers read a byte every half minute into a window of a few bytes.
const SLOW_READ: [&str; 13] = ["-X", "-t", "GET", "-k", "10", "-w", "1", "-y", "10", "-n", "30", "-z", "1"];

fn start(broker: &Broker, http: &str) -> Bridge {
    let bridge =
        Bridge::start(&broker.address(), TOPIC, &format!("http: {{listen: 127.0.0.1:0, path: {PATH}, {http}}}"));
    let ready = || (bridge.readiness().0 == 200).then_some(());
    wait_for("the bridge to be ready", Duration::from_secs(20), || bridge.log_tail(), ready);
    bridge
}

/// Good callbacks, each on a fresh and on a kept connection, every 20 ms until `enough`; how long their answers took.
struct Honest {
    fresh: Vec<Duration>,
    kept: Vec<Duration>,
}

impl Honest {
    fn send_until(address: SocketAddr, enough: impl Fn(usize) -> bool) -> Self {
        let (run, mut kept_client) = (unique(), Client::new(address));
        let mut honest = Self { fresh: Vec::new(), kept: Vec::new() };
        while !enough(honest.fresh.len()) {
            let number = honest.fresh.len();
            let send = |client: &mut Client, which: &str| {
                let file = format!("{run:016x}{which}{number:012x}");
                let body = callback(KEY, seconds_now() + 600, "honest", &file);
                let sent = Instant::now();
                let status = client.post(PATH, &body);
                let taken = sent.elapsed();
                assert_eq!(status.as_ref().ok(), Some(&200), "callback {number}, {which}: {status:?} after {taken:?}");
                taken
            };
            honest.kept.push(send(&mut kept_client, "kept"));
            honest.fresh.push(send(&mut Client::new(address), "fresh"));
            thread::sleep(Duration::from_millis(20));
        }
        honest
    }

    /// Median and 99th percentile over both kinds, and the worst.
    fn percentiles(&self) -> [Duration; 3] {
        let mut sorted: Vec<_> = self.fresh.iter().chain(&self.kept).copied().collect();
        sorted.sort_unstable();
        [50, 99, 100].map(|percent| sorted[(sorted.len() - 1) * percent / 100])
    }

    /// `self` is how it was in quiet; the other, how it is under attack.
    fn assert_unharmed(&self, attacked: &Self) {
        let (quiet, now) = (self.percentiles(), attacked.percentiles());
        let figures = format!(
            "median, p99, worst: {quiet:.1?} before, {now:.1?} under attack; {} callbacks",
            attacked.fresh.len() + attacked.kept.len()
        );
        println!("{figures}");
        assert!(attacked.fresh.len() >= 30, "too few to tell: {figures}");
        let may_take = |least: Duration, quiet: Duration| least.max(quiet * SLOWDOWN_MAX).min(STARVED_MIN);
        assert!(now[0] < may_take(MEDIAN_MAX, quiet[0]), "{figures}");
        assert!(now[1] < may_take(SLOW_MAX, quiet[1]), "{figures}");
        assert!(now[2] < STARVED_MIN, "{figures}");
    }
}

fn in_quiet(bridge: &Bridge) -> Honest {
    Honest::send_until(bridge.callbacks(), |sent| sent >= 40)
}

/// `slowhttptest`, for 60 s or until the bridge has closed its last connection.
struct Attack(Child);

impl Attack {
    fn start(address: SocketAddr, path: &str, mode: &[&str]) -> Self {
        let url = format!("http://{address}{path}");
        let connections = CONNECTIONS.to_string();
        let child = Command::new("slowhttptest")
            .args(mode)
            .args(["-c", &connections, "-r", &connections, "-l", "60", "-i", "1", "-v", "0", "-u", &url])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap_or_else(|error| {
            panic!("no slowhttptest ({error}). Install it as root with: apt-get install -y slowhttptest")
        }))
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Attacks a bridge with its default limits. Every connection of the attack has to end, within `deadline` and a
/// tolerance, while the attack still wants to go on; `counted` is what they are counted under, if that is a fault.
fn attack(path: &str, mode: &[&str], counted: Option<(&str, &str)>, deadline: Duration) {
    let broker = Broker::start();
    let bridge = start(&broker, "");
    let quiet = in_quiet(&bridge);
    let attack = Attack::start(bridge.callbacks(), path, mode);
    let (began, is_over) = (Instant::now(), AtomicBool::new(false));
    // A connection or two are those of good callbacks.
    let is_there = AtomicBool::new(false);
    let is_gone = || {
        let open = bridge.metric("recording_bridge_connections", &[]);
        is_there.fetch_or(open > CONNECTIONS / 2, Ordering::Relaxed) && open <= 2
    };
    let attacked = thread::scope(|scope| {
        let honest = scope.spawn(|| Honest::send_until(bridge.callbacks(), |_| is_over.load(Ordering::Relaxed)));
        let patience = deadline + Duration::from_secs(15);
        while !is_gone() && began.elapsed() < patience && !honest.is_finished() {
            thread::sleep(Duration::from_millis(100));
        }
        is_over.store(true, Ordering::Relaxed);
        honest.join().unwrap()
    });
    println!("{mode:?}: over after {:.1?}", began.elapsed());
    quiet.assert_unharmed(&attacked);
    assert!(is_gone(), "the bridge has to end every connection of the attack, within {deadline:?}");
    if let Some((metric, reason)) = counted {
        let ended = bridge.metric(&format!("recording_bridge_{metric}"), &[("reason", reason)]);
        assert_eq!(ended, CONNECTIONS, "{reason}");
    }
    drop(attack);
    bridge.assert_conservation();
    assert_eq!(bridge.terminate(), 0);
}

// -------------------------------------------------------------------------------------------------- hundreds, and slow

#[test]
fn heads_that_never_end_keep_nobody_waiting() {
    attack(PATH, &["-H"], Some(("connection_faults_total", "head_too_slow")), Duration::from_secs(5));
}

#[test]
fn bodies_that_never_end_keep_nobody_waiting() {
    attack(PATH, &["-B", "-s", "60000"], Some(("callbacks_total", "body_too_slow")), Duration::from_secs(10));
}

#[test]
fn answers_that_are_read_byte_by_byte_keep_nobody_waiting() {
    // Answers here are short, so the system takes them all, and what is slow to end is an idle connection.
    attack("/healthz", &SLOW_READ, None, Duration::from_secs(5));
}

#[test]
fn metrics_that_are_read_byte_by_byte_keep_no_operator_waiting() {
    let broker = Broker::start();
    let bridge = start(&broker, "");
    let quiet = in_quiet(&bridge);
    let probe = || {
        let ((status, taken), kept) = (bridge.readiness(), bridge.metrics().len());
        // Without a place for it a probe is not answered at all; a machine that is busy with other things takes seconds.
        assert!(status == 200 && kept > 0 && taken < Duration::from_secs(10), "{status} after {taken:?}");
    };
    let _attack = Attack::start(bridge.admin(), "/metrics", &SLOW_READ);
    let evicted = || bridge.metric("recording_bridge_connections_evicted_total", &[("reason", "admin_limit")]);
    let gives_way = || (evicted() >= CONNECTIONS / 2).then_some(());
    wait_for("operators' connections to give way", Duration::from_secs(20), || bridge.log_tail(), gives_way);
    let attacked = Honest::send_until(bridge.callbacks(), |sent| {
        probe();
        sent >= 40
    });
    quiet.assert_unharmed(&attacked);
}

/// Set when what [`Flag::set_at_the_end`] returns is dropped, be it by a panic.
struct Flag(AtomicBool);

struct Setter<'a>(&'a Flag);

impl Flag {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set_at_the_end(&self) -> Setter<'_> {
        Setter(self)
    }
}

impl Drop for Setter<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// More senders than places, each of which begins a body and a new connection as soon as its last one is closed.
#[test]
fn bodies_that_are_begun_again_and_again_keep_nobody_out() {
    const SENDERS: usize = 96;
    let broker = Broker::start();
    let bridge = start(&broker, "connections_max: 64");
    let quiet = in_quiet(&bridge);
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: bridge\r\nContent-Length: 1000\r\n\r\n{{");
    let is_over = Flag(AtomicBool::new(false));
    let attacked = thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                while !is_over.is_set() {
                    let mut stream = TcpStream::connect(bridge.callbacks()).unwrap();
                    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                    drop(stream.write_all(head.as_bytes()));
                    // Until it is closed.
                    drop(stream.read(&mut [0; 1]));
                    thread::sleep(Duration::from_millis(50));
                }
            });
        }
        // However this ends: the senders would go on for ever.
        let _end = is_over.set_at_the_end();
        let full = || (bridge.metric("recording_bridge_connections", &[]) == 64).then_some(());
        wait_for("every place to be taken", Duration::from_secs(20), || bridge.log_tail(), full);
        Honest::send_until(bridge.callbacks(), |sent| sent >= 60)
    });
    let count = |name: &str, reason: &str| bridge.metric(&format!("recording_bridge_{name}"), &[("reason", reason)]);
    println!("{} gave way", count("connections_evicted_total", "limit"));
    quiet.assert_unharmed(&attacked);
    assert_eq!(count("connections_refused_total", "limit"), 0);
    bridge.assert_conservation();
    assert_eq!(bridge.terminate(), 0);
}

#[test]
fn a_burst_of_connections_waits_in_the_queue_of_the_system() {
    let broker = Broker::start();
    let bridge = start(&broker, "");
    bridge.freeze();
    // Whoever finds the queue full is not answered at all, and tries again after a second.
    let patience = Duration::from_millis(900);
    let bursts = [bridge.callbacks(), bridge.admin()].map(|address| {
        let burst: Vec<_> = (0..600).map_while(|_| TcpStream::connect_timeout(&address, patience).ok()).collect();
        assert_eq!(burst.len(), 600, "so many found room in the queue");
        burst
    });
    bridge.thaw();
    assert_eq!(bridge.readiness().0, 200);
    Honest::send_until(bridge.callbacks(), |sent| sent >= 3);
    // Operators have 64 places. Whoever has not been heard yet is waited for, and gives way then.
    let count = |name: &str| bridge.metric(&format!("recording_bridge_{name}"), &[("reason", "admin_limit")]);
    assert_eq!(count("connections_refused_total"), 0);
    assert!(count("connections_evicted_total") > 500, "{}", count("connections_evicted_total"));
    drop(bursts);
}

// -------------------------------------------------------------------------------------------------- thousands, and idle

#[test]
fn ten_thousand_idle_connections_keep_nobody_out_and_cost_little() {
    const RESIDENT_KIB_MAX: u64 = 128 * 1024;
    const CROWD: u64 = 10_600;
    const PLACES: u64 = 10_100;
    let broker = Broker::start();
    // Longer than it takes to open so many, or the first would be gone before the last is there.
    let bridge = start(&broker, "connections_max: 10100, header_deadline: 18s, request_deadline: 19s");
    let quiet = in_quiet(&bridge);
    let before = bridge.resources();
    let count = |name: &str, reason: &str| bridge.metric(&format!("recording_bridge_{name}"), &[("reason", reason)]);
    let mut crowds = [Crowd::start(bridge.callbacks(), 5_300, 2, 9), Crowd::start(bridge.callbacks(), 5_300, 10, 17)];
    crowds.iter_mut().for_each(Crowd::await_open);
    let open = || (count("connections_evicted_total", "limit") >= CROWD - PLACES).then_some(());
    wait_for("the places to be taken", Duration::from_secs(60), || bridge.log_tail(), open);
    let crowded = Honest::send_until(bridge.callbacks(), |sent| sent >= 30);
    let held = bridge.resources();
    let (places, evicted) =
        (bridge.metric("recording_bridge_connections", &[]), count("connections_evicted_total", "limit"));
    println!(
        "{places} connections hold {} MiB, {} KiB each; {evicted} gave way; before {before:?}, crowded {held:?}",
        held.resident_kib / 1024,
        (held.resident_kib - before.resident_kib) / places
    );
    quiet.assert_unharmed(&crowded);
    // Good callbacks on connections of their own leave a place or two.
    assert!(places > 10_000 && places <= PLACES, "{places}");
    assert!(evicted > CROWD - PLACES, "{evicted}");
    assert_eq!(count("connections_refused_total", "limit"), 0);
    assert!(held.resident_kib < RESIDENT_KIB_MAX, "{held:?}");
    drop(crowds);
    let returned = || {
        let after = bridge.resources();
        let small = after.descriptors <= before.descriptors + 8
            && after.resident_kib < before.resident_kib + (held.resident_kib - before.resident_kib) / 4;
        small.then_some(after)
    };
    let after = wait_for(
        "descriptors and memory to return",
        Duration::from_secs(60),
        || format!("{before:?}, {held:?}, {:?}", bridge.resources()),
        returned,
    );
    println!("afterwards {after:?}");
    bridge.assert_conservation();
    assert_eq!(bridge.terminate(), 0);
}

// --------------------------------------------------------------------------------------------- hundreds, large, and slow

#[test]
fn bodies_beyond_their_budget_are_refused_and_the_resident_memory_stays_bounded() {
    const FLOOD: u64 = 900;
    const BODY_BYTES: usize = 240_000;
    /// The budget, 900 connections and their buffers, and what the allocator has not given back yet: some 135 MiB. The
    /// flood would be 206 MiB without them.
    const GROWTH_KIB_MAX: u64 = 176 * 1024;
    /// What the budget holds of such bodies, 4 KiB of each being free.
    const HELD_MAX: u64 = 64 * 1024 * 1024 / (240_000 - 4 * 1024);
    let broker = Broker::start();
    let bridge = start(&broker, "body_bytes_max: 242KiB, request_deadline: 19s");
    let before = bridge.resources();
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: bridge\r\nContent-Length: {}\r\n\r\n", BODY_BYTES + 1);
    let request = [head.into_bytes(), vec![b' '; BODY_BYTES]].concat();
    let in_flight = || bridge.metric("recording_bridge_callbacks_in_flight", &[]);
    let (mut flood, mut resident_kib) = (Vec::new(), 0);
    for number in 1..=FLOOD {
        let mut stream = TcpStream::connect(bridge.callbacks()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // Whoever is refused is not read to its end.
        drop(stream.write_all(&request));
        flood.push(stream);
        if number.is_multiple_of(50) {
            resident_kib = resident_kib.max(bridge.resources().resident_kib);
        }
    }
    let refused = || {
        bridge.metric("recording_bridge_callbacks_total", &[("outcome", "refused"), ("reason", "too_many_in_flight")])
    };
    // Until it has been read, much of the flood rests in the buffers of the system.
    let settled = || (in_flight() <= HELD_MAX).then_some(());
    wait_for("the flood to be read", Duration::from_secs(15), || bridge.log_tail(), settled);
    let resident_kib = resident_kib.max(bridge.resources().resident_kib);
    let unfinished = in_flight();
    println!("{} of {FLOOD} refused, {unfinished} held; {before:?}, at most {} MiB", refused(), resident_kib / 1024);
    // Real callbacks are small and need none of the budget.
    Honest::send_until(bridge.callbacks(), |sent| sent >= 20);
    assert!(resident_kib < before.resident_kib + GROWTH_KIB_MAX, "{resident_kib} KiB, {before:?}");
    // On a slow machine the first have gone by their deadline before the last come.
    assert!(refused() > FLOOD / 10, "{}", refused());
    // The last came when the budget was used up; an answer may be cut off by what its sender sent in vain.
    let answers_503 = |stream: &mut TcpStream| {
        let mut answer = [0; 13];
        stream.read_exact(&mut answer).is_ok() && &answer == b"HTTP/1.1 503 "
    };
    assert!(flood.iter_mut().rev().take(50).any(answers_503), "nobody read a 503");
    drop(flood);
    let gone = || (in_flight() == 0).then_some(());
    wait_for("the flood to be over", Duration::from_secs(20), || bridge.log_tail(), gone);
    bridge.assert_conservation();
    assert_eq!(bridge.terminate(), 0);
}
