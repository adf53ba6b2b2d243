//! Promise: a new connection gets in as long as any other is idle. The one that gives way is the one that has been idle
//! longest; a whole request is never disturbed, a source at its own limit costs nobody else anything, and no
//! callback is lost by any of it beyond a retry.

#![expect(clippy::float_cmp, reason = "counters are whole numbers, which floats hold exactly")]

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::load;
use crate::support::unique;
use crate::support_app::{
    ACKNOWLEDGED, Bridge, Broker, Client, KEY, PATH, PATIENCE, Setup, ask, body, eventually, get, now, post,
};

const REFUSED: &str = "connections_refused_total{reason=\"limit\"}";
const REFUSED_OF_SOURCE: &str = "connections_refused_total{reason=\"source_limit\"}";
const EVICTED: &str = "connections_evicted_total{reason=\"limit\"}";
const EVICTED_OF_SOURCE: &str = "connections_evicted_total{reason=\"source_limit\"}";

fn bridge_with_places(broker: &Broker, places: usize) -> Bridge {
    Setup::new(broker).with(|config| config.http.connections_max = places).start()
}

fn bridge_with_places_per_source(broker: &Broker, places: usize, listen: SocketAddr) -> Bridge {
    let change = |config: &mut recording_bridge::config::Config| {
        config.http.connections_per_source_max = places;
        config.http.listen = listen;
    };
    Setup::new(broker).with(change).start()
}

fn local(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

const LOCALHOST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A client whose connection has its place.
fn seated(bridge: &Bridge, client: impl FnOnce() -> Client) -> Client {
    let before = bridge.metric("connections");
    let client = client();
    bridge.counted("connections", before + 1.0);
    client
}

// ------------------------------------------------------------------------------------------------------- in all places

#[test]
fn the_connection_that_has_been_idle_longest_gives_way_to_a_new_one() {
    let broker = Broker::start();
    let bridge = bridge_with_places(&broker, 3);
    let mut first = seated(&bridge, || bridge.client());
    let mut second = seated(&bridge, || bridge.client());
    let mut third = seated(&bridge, || bridge.client());
    // Opened first, and idle for the shortest time.
    assert_eq!(first.ask(post(body("first"))).0, ACKNOWLEDGED);
    let mut fourth = bridge.client();
    assert_eq!(fourth.ask(post(body("fourth"))).0, ACKNOWLEDGED);
    assert_eq!(second.rest(), "");
    let mut fifth = bridge.client();
    assert_eq!(fifth.ask(post(body("fifth"))).0, ACKNOWLEDGED);
    assert_eq!(third.rest(), "");
    for stays in [&mut first, &mut fourth, &mut fifth] {
        assert_eq!(stays.ask(post(body("again"))).0, ACKNOWLEDGED);
    }
    assert_eq!((bridge.metric(EVICTED), bridge.metric(REFUSED)), (2.0, 0.0));
    assert_eq!(bridge.metric("connections"), 3.0, "never more than there are places");
    assert_eq!(bridge.metric("connection_faults_total{reason=\"broken\"}"), 0.0, "giving way is no fault");
}

#[test]
fn half_a_head_and_an_answer_that_nobody_reads_give_way() {
    let broker = Broker::start();
    let bridge = bridge_with_places(&broker, 1);
    let mut slow = seated(&bridge, || bridge.client());
    slow.write(format!("POST {PATH} HTTP/1.1\r\nHost: bri"));
    assert_eq!(ask(bridge.callbacks, post(body("next"))).0, ACKNOWLEDGED);
    assert_eq!(slow.rest(), "");
    bridge.counted("connections", 0.0);
    let mut deaf = seated(&bridge, || bridge.client());
    deaf.stuff(get("/healthz"));
    let started = now();
    // What it has sent may still be worked on; then there is no room yet.
    eventually("the one who does not read gives way", || {
        let mut client = bridge.client();
        client.write(post(body("last")));
        client.finish();
        client.rest().starts_with("HTTP/1.1 200 OK")
    });
    assert!(now() - started < Duration::from_secs(4), "the one who does not read was waited for");
    assert_eq!(bridge.metric(EVICTED), 2.0);
}

#[test]
fn a_connection_with_a_whole_request_never_gives_way() {
    let broker = Broker::start();
    let bridge = bridge_with_places(&broker, 2);
    broker.slow(Duration::from_secs(1));
    let mut delivering: Vec<Client> = (0..2).map(|_| bridge.client()).collect();
    for client in &mut delivering {
        client.write(post(body("delivering")));
    }
    bridge.counted("kafka_outstanding_messages", 2.0);
    assert_eq!(bridge.client().rest(), "");
    assert_eq!((bridge.metric(EVICTED), bridge.metric(REFUSED)), (0.0, 1.0));
    broker.slow(Duration::ZERO);
    for client in &mut delivering {
        assert_eq!(client.answer().0, ACKNOWLEDGED);
    }
    assert_eq!(bridge.post(body("idle again")).0, ACKNOWLEDGED);
    assert_eq!(bridge.metric(EVICTED), 1.0);
}

#[test]
fn a_body_that_does_not_end_gives_way_when_it_has_been_waited_for_longest() {
    let broker = Broker::start();
    let bridge = bridge_with_places(&broker, 2);
    let request = post(body("unfinished"));
    let (one, two) = request.split_at(request.len() - 10);
    let begun = |number: f64| {
        let mut client = bridge.client();
        client.write(one);
        bridge.counted("callbacks_in_flight", number);
        client
    };
    let (mut first, mut second) = (begun(1.0), begun(2.0));
    let mut third = bridge.client();
    assert_eq!(third.ask(post(body("third"))).0, ACKNOWLEDGED);
    assert_eq!(first.rest(), "");
    // It was idle before, and its time begins anew with the head; the third has been idle since its answer.
    second.write(two);
    assert_eq!(second.answer().0, ACKNOWLEDGED);
    second.write(one);
    bridge.counted("callbacks_in_flight", 1.0);
    assert_eq!(bridge.client().ask(post(body("fourth"))).0, ACKNOWLEDGED);
    assert_eq!(third.rest(), "");
    assert_eq!(second.ask(two).0, ACKNOWLEDGED);
    assert_eq!((bridge.metric(EVICTED), bridge.metric(REFUSED)), (2.0, 0.0));
    assert_eq!(bridge.outcome("refused", "body_too_slow"), 1.0);
    assert_eq!(bridge.outcome("refused", "client_gone"), 0.0, "it was we who closed the connection");
}

/// More clients than places, every one with a connection that it keeps: whenever one connects, another loses an idle
/// connection, often just when its next request arrives.
#[test]
fn a_callback_that_arrives_while_its_connection_gives_way_is_answered_or_not_begun() {
    const CLIENTS: u64 = 12;
    const CALLBACKS: u64 = 150;
    let broker = Broker::start();
    let bridge = bridge_with_places(&broker, 4);
    let (run, retries) = (unique(), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (address, retries) = (bridge.callbacks, &retries);
            scope.spawn(move || {
                let mut client = load::Client::new(address);
                for callback in 0..CALLBACKS {
                    let file = format!("{run:016x}{number:04x}{callback:012x}");
                    let body = load::callback(KEY, load::seconds_now() + 600, "crowded", &file);
                    // The sender tries again when it gets no answer.
                    let (mut tries, started) = (0, now());
                    let status = loop {
                        match client.post(PATH, &body) {
                            Ok(status) => break status,
                            Err(error) => assert!(now() - started < PATIENCE, "no place in {tries} tries: {error}"),
                        }
                        tries += 1;
                        thread::sleep(Duration::from_micros(100 * (number + 1)));
                    };
                    assert_eq!(status, 200);
                    retries.fetch_add(tries, Ordering::Relaxed);
                    // Idle for about as long as a callback takes.
                    thread::sleep(Duration::from_millis(2));
                }
            });
        }
    });
    let (evicted, refused) = (bridge.metric(EVICTED), bridge.metric(REFUSED));
    println!("{evicted} gave way, {refused} refused, {} retries", retries.into_inner());
    assert!(evicted > 100.0, "only {evicted} gave way: this proves nothing");
    // A callback that was begun and then cut off would have been accepted, and then sent again.
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let sent = (CLIENTS * CALLBACKS) as f64;
    assert_eq!((bridge.outcome("accepted", "kafka"), bridge.outcome("duplicate", "repeat")), (sent, 0.0));
    assert_eq!(bridge.outcome("refused", "client_gone"), 0.0, "no request was cut off");
}

// -------------------------------------------------------------------------------------------------- places of a source

#[test]
fn a_source_at_its_limit_gives_up_a_connection_of_its_own_and_never_one_of_another() {
    let broker = Broker::start();
    let bridge = bridge_with_places_per_source(&broker, 2, LOCALHOST);
    let from = |last| seated(&bridge, || Client::connect_from(local(last), bridge.callbacks));
    // Idle for longest of all.
    let mut other = from(2);
    let (mut first, second) = (from(1), from(1));
    let mut third = bridge.client();
    assert_eq!(third.ask(post(body("third"))).0, ACKNOWLEDGED);
    assert_eq!(first.rest(), "");
    assert_eq!((bridge.metric(EVICTED_OF_SOURCE), bridge.metric(EVICTED)), (1.0, 0.0));
    assert_eq!(other.ask(post(body("other"))).0, ACKNOWLEDGED);
    // Nothing of its own is idle: there is nothing to give up.
    broker.slow(Duration::from_secs(1));
    let mut busy = [second, third];
    for client in &mut busy {
        client.write(post(body("busy")));
    }
    bridge.counted("kafka_outstanding_messages", 2.0);
    assert_eq!(bridge.client().rest(), "");
    assert_eq!((bridge.metric(REFUSED_OF_SOURCE), bridge.metric(EVICTED_OF_SOURCE)), (1.0, 1.0));
    broker.slow(Duration::ZERO);
    for mut client in busy {
        assert_eq!(client.answer().0, ACKNOWLEDGED);
    }
    drop((first, other));
    bridge.counted("connections", 0.0);
    assert_eq!(bridge.post(body("next")).0, ACKNOWLEDGED);
}

#[test]
fn ipv4_peers_of_a_socket_for_both_are_sources_of_their_own() {
    let broker = Broker::start();
    let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
    let bridge = bridge_with_places_per_source(&broker, 1, both);
    let address = SocketAddr::new(local(1), bridge.callbacks.port());
    // As IPv6 addresses all of them are in one network of 64 bits.
    let clients: Vec<Client> =
        (2..5).map(|last| seated(&bridge, || Client::connect_from(local(last), address))).collect();
    for mut client in clients {
        assert_eq!(client.ask(post(body("any"))).0, ACKNOWLEDGED);
    }
    assert_eq!((bridge.metric(EVICTED_OF_SOURCE), bridge.metric(REFUSED_OF_SOURCE)), (0.0, 0.0));
}

/// Addresses of IPv6 that are this machine's, until they are dropped.
struct Addresses {
    network: u128,
    taken: RefCell<Vec<IpAddr>>,
}

impl Addresses {
    fn of_a_network() -> Self {
        // fd00::/8 is for everybody's own use; 40 random bits keep clear of what is there.
        Self { network: 0xfd << 120 | u128::from(unique() >> 24) << 80, taken: RefCell::default() }
    }

    fn take(&self, subnet: u16, host: u64) -> IpAddr {
        let bits = self.network | u128::from(subnet) << 64 | u128::from(host);
        let address = IpAddr::V6(Ipv6Addr::from_bits(bits));
        Self::change("add", address);
        self.taken.borrow_mut().push(address);
        address
    }

    fn change(change: &str, address: IpAddr) {
        let output =
            Command::new("ip").args(["-6", "addr", change, &format!("{address}/128"), "dev", "lo", "nodad"]).output();
        let output = output.unwrap_or_else(|error| panic!("no ip ({error}). Install it: apt-get install -y iproute2"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\nThis test gives the machine addresses: it needs root and IPv6.");
    }
}

impl Drop for Addresses {
    fn drop(&mut self) {
        self.taken.take().into_iter().for_each(|address| Self::change("del", address));
    }
}

#[test]
fn all_addresses_of_an_ipv6_network_of_64_bits_are_one_source() {
    let (broker, network) = (Broker::start(), Addresses::of_a_network());
    let listen = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
    let bridge = bridge_with_places_per_source(&broker, 2, listen);
    let address = SocketAddr::new(network.take(0, 1), bridge.callbacks.port());
    let from = |subnet, host| Client::connect_from(network.take(subnet, host), address);
    let mut neighbour = seated(&bridge, || from(8, 1));
    let mut first = seated(&bridge, || from(7, 1));
    let second = seated(&bridge, || from(7, 0xffff_ffff_ffff_ffff));
    let mut third = from(7, 0x8000_0000_0000_0000);
    assert_eq!(third.ask(post(body("third"))).0, ACKNOWLEDGED);
    assert_eq!(first.rest(), "");
    assert_eq!(bridge.metric(EVICTED_OF_SOURCE), 1.0);
    assert_eq!(neighbour.ask(post(body("neighbour"))).0, ACKNOWLEDGED);
    drop((second, third));
}

// ---------------------------------------------------------------------------------------------------------- operators

#[test]
fn connections_that_lie_idle_keep_no_operator_out() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    let mut crowd: Vec<Client> = (0..64).map(|_| Client::connect(bridge.admin)).collect();
    for slow in crowd.iter_mut().step_by(2) {
        slow.write("GET /metrics HTTP/1.1\r\nHo");
    }
    for page in ["/live", "/ready", "/metrics"] {
        assert_eq!(ask(bridge.admin, get(page)).status(), 200);
    }
    let evicted = "connections_evicted_total{reason=\"admin_limit\"}";
    assert!(bridge.metric(evicted) > 0.5, "{}", bridge.metric(evicted));
    assert_eq!(bridge.metric("connections"), 0.0, "operators are no senders");
}
