//! The places of a listener: how many connections may be open, in all and of one source, and who gives way.
//!
//! When all places are taken, the connection that has been idle longest is closed, and the new one gets its place. So
//! whoever only holds connections open, however many, keeps nobody out. Idle is whoever has no whole request here:
//! between two answers, or with a head or a body that is still to come, since time begins anew with the end of a head.
//! A request whose body was read to its end is never disturbed; if there is one on every connection, the new one is
//! refused. A connection that comes to its TLS handshake, or is in the middle of it, is idle like any other: it costs a
//! stranger nothing to begin one and to leave it half done. Were handshakes spared before idle connections, whoever has
//! finished one would give way before its first request is there. A source that is at its own limit gives up one of its
//! own connections, and never that of another.
//!
//! A request costs two atomic stores and a shared count. Nobody keeps a list in order: when a place is needed, all are
//! looked through. They lie side by side, 64 KiB of them by default, which takes some microseconds, less than to
//! accept a connection and to close another.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::tally::Tally;
use crate::metrics::ConnectionRefusal;

/// More descriptors than these no process has, unless its kernel was told otherwise.
const PLACES_MAX: usize = 1 << 20;

/// States of a place. Below these stands the turn at which its connection became idle, so that the smallest state is that
/// of the one who gives way.
const FREE: u64 = u64::MAX;
/// A whole request is here, or the connection ends after one.
const BUSY: u64 = u64::MAX - 1;
/// Nobody has looked yet whether a request has come with the connection. Were it idle at once, the next one that needs
/// a place could take it away unheard.
const ARRIVING: u64 = u64::MAX - 2;
/// Its connection has to go.
const EVICTED: u64 = u64::MAX - 3;

/// All places of one listener.
pub(super) struct Places {
    shared: Arc<Shared>,
}

struct Shared {
    states: Box<[AtomicU64]>,
    /// Counts how often any connection became idle: an order of events that needs no clock.
    turn: AtomicU64,
    book: Mutex<Book>,
    /// Rung when an eviction is over, for the connection has ended or a request came first, and when it is known of a
    /// connection that arrived whether it is idle.
    settled: Notify,
    per_source_max: usize,
    tally: Tally,
}

/// Who sits where.
struct Book {
    free: Vec<usize>,
    /// What tells the connection of a place that it was evicted.
    bells: HashMap<usize, Arc<Notify>>,
    /// The places of every source, if sources have a limit.
    sources: HashMap<IpAddr, Vec<usize>>,
}

/// What comes of asking for a place.
enum Asked {
    Taken(Place),
    /// A connection is about to give way, or may be as soon as it has been looked at.
    Waits,
    Refused(ConnectionRefusal),
}

impl Places {
    pub(super) fn new(connections_max: usize, per_source_max: usize, tally: Tally) -> Self {
        let connections_max = connections_max.min(PLACES_MAX);
        let states = (0..connections_max).map(|_| AtomicU64::new(FREE)).collect();
        let book = Book { free: (0..connections_max).rev().collect(), bells: HashMap::new(), sources: HashMap::new() };
        let (turn, settled) = (AtomicU64::new(0), Notify::new());
        Self { shared: Arc::new(Shared { states, turn, book: Mutex::new(book), settled, per_source_max, tally }) }
    }

    /// A place for a connection of `peer`, for which another may have to go. That takes no longer than to wake it,
    /// since it is not asked to finish anything. `None` if there is no place to be had; the new connection is then
    /// closed without a word, which costs least.
    pub(super) async fn take(&self, peer: IpAddr) -> Option<Place> {
        let source = source(peer);
        loop {
            match self.shared.ask(source) {
                Asked::Taken(place) => return Some(place),
                Asked::Waits => self.shared.settled.notified().await,
                Asked::Refused(reason) => {
                    self.shared.tally.refused(reason);
                    return None;
                }
            }
        }
    }
}

/// Whom a connection is counted under. Whoever has one address of IPv6 has a network of 64 bits, so that is one
/// source. An IPv4 peer of a socket for both is an IPv4 peer.
fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Shared {
    fn ask(self: &Arc<Self>, source: IpAddr) -> Asked {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let own = book.sources.get(&source).filter(|own| own.len() >= self.per_source_max);
        if let Some(own) = own {
            return self.make_room(&book, own.iter().copied(), ConnectionRefusal::SourceLimit);
        }
        let Some(index) = book.free.pop() else {
            return self.make_room(&book, 0..self.states.len(), ConnectionRefusal::Limit);
        };
        if self.per_source_max > 0 {
            book.sources.entry(source).or_default().push(index);
        }
        let bell = Arc::new(Notify::new());
        book.bells.insert(index, Arc::clone(&bell));
        self.swap(index, ARRIVING);
        self.tally.opened();
        let (served, leaving) = (AtomicBool::new(false), AtomicBool::new(false));
        Asked::Taken(Place { shared: Arc::clone(self), index, source, bell, served, leaving })
    }

    /// Evicts the connection among `candidates` that has been idle longest.
    fn make_room(&self, book: &Book, candidates: impl Iterator<Item = usize>, reason: ConnectionRefusal) -> Asked {
        let mut longest = (FREE, 0);
        for index in candidates {
            match self.states.get(index).map_or(FREE, |state| state.load(Ordering::Relaxed)) {
                // One is enough.
                EVICTED => return Asked::Waits,
                state => longest = longest.min((state, index)),
            }
        }
        let (turn, index) = longest;
        match turn {
            FREE | BUSY => return Asked::Refused(reason),
            // A burst is accepted faster than it is looked at.
            ARRIVING => return Asked::Waits,
            _ => {}
        }
        // If a request has come in the meantime, whoever asked asks again.
        if !self.exchange(index, turn, EVICTED) {
            self.settled.notify_one();
            return Asked::Waits;
        }
        if let Some(bell) = book.bells.get(&index) {
            bell.notify_one();
        }
        self.tally.evicted(reason);
        Asked::Waits
    }

    /// Tells whoever waits for a place that a connection has left a state `before` that is awaited.
    fn settle(&self, before: u64) {
        if matches!(before, ARRIVING | EVICTED) {
            self.settled.notify_one();
        }
    }

    fn exchange(&self, index: usize, from: u64, to: u64) -> bool {
        self.states
            .get(index)
            .is_some_and(|state| state.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok())
    }

    fn swap(&self, index: usize, to: u64) -> u64 {
        self.states.get(index).map_or(FREE, |state| state.swap(to, Ordering::Relaxed))
    }

    fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}

/// One open connection's place, given back when it is dropped.
pub(super) struct Place {
    shared: Arc<Shared>,
    index: usize,
    source: IpAddr,
    bell: Arc<Notify>,
    served: AtomicBool,
    /// A request came when the connection had been evicted already: it is answered, and is the last one.
    leaving: AtomicBool,
}

impl Place {
    /// The head of a request is here.
    pub(super) fn work(self: &Arc<Self>) -> Work {
        self.served.store(true, Ordering::Relaxed);
        self.stay(self.shared.next_turn());
        Work(Arc::clone(self))
    }

    /// Enters a state in which the connection stays although it was evicted; it then ends after this request.
    fn stay(&self, state: u64) {
        let before = self.shared.swap(self.index, state);
        if before == EVICTED {
            self.leaving.store(true, Ordering::Relaxed);
        }
        self.shared.settle(before);
    }

    /// Whether there was a request on this connection.
    pub(super) fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// Waits until the connection is to end, after its request if one is under way. Whoever waits has looked for a
    /// request before, so from now on the connection may be idle.
    pub(super) async fn is_unwanted(&self) {
        self.has_arrived();
        while !self.is_evicted() && !self.leaving.load(Ordering::Relaxed) {
            self.bell.notified().await;
        }
    }

    /// Waits until the connection is to end at once: it was evicted, and no request has come first. As above, it may be
    /// idle from now on.
    pub(super) async fn is_vacated(&self) {
        self.has_arrived();
        while !self.is_evicted() {
            self.bell.notified().await;
        }
    }

    fn has_arrived(&self) {
        if self.state() == ARRIVING && self.shared.exchange(self.index, ARRIVING, self.shared.next_turn()) {
            self.shared.settle(ARRIVING);
        }
    }

    fn is_evicted(&self) -> bool {
        self.state() == EVICTED
    }

    fn state(&self) -> u64 {
        self.shared.states.get(self.index).map_or(FREE, |state| state.load(Ordering::Relaxed))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut book = self.shared.book.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = book.sources.get_mut(&self.source) {
            own.retain(|index| *index != self.index);
            if own.is_empty() {
                book.sources.remove(&self.source);
            }
        }
        book.bells.remove(&self.index);
        book.free.push(self.index);
        let before = self.shared.swap(self.index, FREE);
        self.shared.settle(before);
        self.shared.tally.closed();
    }
}

/// One request on a connection, from the end of its head to its answer.
pub(super) struct Work(Arc<Place>);

impl Work {
    /// The request is whole: until this is dropped nobody evicts its connection.
    pub(super) fn is_whole(&self) {
        self.0.stay(BUSY);
    }

    /// Whether the connection had to go before the request was whole.
    pub(super) fn was_cut_off(&self) -> bool {
        self.0.is_evicted()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Whoever leaves has been waited for already, and must not be evicted a second time.
        if !self.0.leaving.load(Ordering::Relaxed) {
            self.0.shared.exchange(self.0.index, BUSY, self.0.shared.next_turn());
        }
    }
}
