//! How many instructions and allocations a callback takes, stage by stage and as a whole.
//!
//! Times depend on the machine and on what else it does; these numbers do not. `benches/gate/run` compares them with
//! those in `benches/gate/figures.json`, and fails if one has changed by more than it may.
//!
//! Every function does its stage [`ROUNDS`] times on inputs that setup has prepared, after a first round there that takes
//! what only a first call costs. The lines of the table are per round.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, unreachable_pub, reason = "the macros of the harness make public items")]

#[path = "../../tests/it/support/body.rs"]
#[allow(dead_code, reason = "the gate needs the body alone")]
mod body;
mod request;

use std::hint::black_box;
use std::time::Duration;

use gungraun::prelude::*;
use gungraun::{Callgrind, Dhat, LibraryBenchmarkConfig};
use recording_bridge::callback::{
    AuthenticCallback, Config, Key, Keyring, Normalised, Published, Redaction, Scope, Window as Times, authenticate,
};
use recording_bridge::delivery::window::{self, Window};
use recording_bridge::event::{RecordingEvent, Timestamp};
use recording_bridge::message::{Identity, Message};
use recording_bridge::spool::Frame;

use request::World;

/// How often each stage is done; the script divides by it.
const ROUNDS: usize = 64;
const KEY: &str = "0123456789abcdef0123456789abcdef";
/// The day stands still, so that every run has the same bytes.
const NOW: u64 = 1_767_225_600;

fn now() -> Timestamp {
    Timestamp::from_seconds(NOW, 123_456).unwrap()
}

/// The body of callback `number`: every one of another file, of one of 200 streams.
fn body(number: usize) -> Vec<u8> {
    let stream = format!("live_{}", number % 200);
    body::callback(KEY, NOW + 600, &stream, &format!("1300000000_{number:032x}")).into_bytes()
}

fn bodies() -> Vec<Vec<u8>> {
    (0..=ROUNDS).map(body).collect()
}

fn keyring() -> Keyring {
    Keyring::new(vec![Key::new("key", KEY, Scope::default())])
}

fn times() -> Times {
    Times::new(&Config::new(Vec::new()))
}

fn authentic<'a>(body: &'a [u8], keyring: &Keyring) -> AuthenticCallback<'a> {
    authenticate(body, keyring, times(), now()).unwrap()
}

fn event<'a>(callback: &AuthenticCallback<'a>, redaction: &Redaction) -> RecordingEvent<'a> {
    let Ok(Normalised::Recording { event, .. }) = callback.normalise(redaction, Published::default()) else {
        panic!("it is a recording")
    };
    event
}

/// Takes everything off the allocator's free lists. What setup has freed would otherwise be found by the stage, and a
/// change in one stage would show in all that come behind it.
fn clear_free_lists() {
    for bytes in (16..=2048).step_by(16) {
        for _ in 0..512 {
            std::mem::forget(black_box(Vec::<u8>::with_capacity(bytes)));
        }
    }
}

fn bodies_and_keyring() -> (Vec<Vec<u8>>, Keyring) {
    let (bodies, keyring) = (bodies(), keyring());
    black_box(authentic(&bodies[ROUNDS], &keyring));
    clear_free_lists();
    (bodies, keyring)
}

#[library_benchmark]
#[bench::stage(bodies_and_keyring())]
fn authenticate_body((bodies, keyring): (Vec<Vec<u8>>, Keyring)) {
    for body in &bodies[..ROUNDS] {
        black_box(authentic(black_box(body), &keyring));
    }
    // What setup made is not part of the stage.
    std::mem::forget((bodies, keyring));
}

fn callbacks() -> (Vec<AuthenticCallback<'static>>, Redaction) {
    let (keyring, redaction) = (keyring(), Redaction::default());
    let callbacks: Vec<_> = bodies().into_iter().map(|body| authentic(body.leak(), &keyring)).collect();
    black_box(event(&callbacks[ROUNDS], &redaction));
    clear_free_lists();
    (callbacks, redaction)
}

#[library_benchmark]
#[bench::stage(callbacks())]
fn normalise((callbacks, redaction): (Vec<AuthenticCallback<'static>>, Redaction)) {
    for callback in &callbacks[..ROUNDS] {
        black_box(event(black_box(callback), &redaction));
    }
    std::mem::forget((callbacks, redaction));
}

fn events() -> Vec<RecordingEvent<'static>> {
    let (callbacks, redaction) = callbacks();
    let events: Vec<_> = callbacks.iter().map(|callback| event(callback, &redaction)).collect();
    black_box(Message::encode(&events[ROUNDS], now()));
    clear_free_lists();
    events
}

#[library_benchmark]
#[bench::stage(events())]
fn encode(events: Vec<RecordingEvent<'static>>) {
    for event in &events[..ROUNDS] {
        black_box(Message::encode(black_box(event), now()));
    }
    std::mem::forget(events);
}

/// Where Kafka has an event.
#[derive(Clone, Copy)]
struct Place;

impl window::Proof for Place {
    fn frame(&self) -> Option<u64> {
        None
    }
}

/// A window that is nearly full, as it is at more than 50 callbacks a second, and identities that it does not know.
fn full_window() -> (Window<Place>, Vec<Identity>) {
    let config = window::Config::default();
    let mut window = Window::new(config);
    // Ids look like this, and no two are near each other.
    let identity = |number: usize| {
        let id = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        Identity { event_id: id, facts: !id }
    };
    let entries = config.entries_max;
    for number in 0..entries {
        remember(&mut window, identity(number), number as u64);
    }
    remember(&mut window, identity(entries), entries as u64);
    (window, (entries + 1..).take(ROUNDS).map(identity).collect())
}

fn remember(window: &mut Window<Place>, identity: Identity, sequence: u64) {
    let at = Duration::from_secs(60);
    assert!(matches!(window.recall(identity, at), window::Recalled::Unknown), "it is new");
    let claim = window.claim(identity, sequence, at).unwrap();
    window.settle(claim, Some(Place), at);
    black_box(window.recall(identity, at));
}

#[library_benchmark]
#[bench::stage(full_window())]
fn window_of_repeats((mut window, identities): (Window<Place>, Vec<Identity>)) {
    for (identity, sequence) in identities.iter().zip(100_000..) {
        remember(&mut window, *identity, sequence);
    }
    std::mem::forget((window, identities));
}

fn frames() -> (Vec<Frame>, Vec<u8>) {
    let frames: Vec<_> = events()
        .iter()
        .zip(1..)
        .map(|(event, sequence)| Frame { sequence, accepted_at: now(), message: Message::encode(event, now()) })
        .collect();
    let mut bytes = Vec::with_capacity(1 << 20);
    frames[ROUNDS].encode(&mut bytes).unwrap();
    clear_free_lists();
    (frames, bytes)
}

#[library_benchmark]
#[bench::stage(frames())]
fn encode_frame((frames, mut bytes): (Vec<Frame>, Vec<u8>)) {
    for frame in &frames[..ROUNDS] {
        frame.encode(black_box(&mut bytes)).unwrap();
    }
    std::mem::forget((frames, bytes));
}

fn encoded_frames() -> Vec<u8> {
    let (frames, _) = frames();
    let mut bytes = Vec::new();
    for frame in &frames[..ROUNDS] {
        frame.encode(&mut bytes).unwrap();
    }
    black_box(Frame::decode(&bytes));
    clear_free_lists();
    bytes
}

#[library_benchmark]
#[bench::stage(encoded_frames())]
fn decode_frame(bytes: Vec<u8>) {
    let mut rest = &bytes[..];
    while let Some((frame, length)) = Frame::decode(black_box(rest)) {
        black_box(frame);
        rest = &rest[length..];
    }
    std::mem::forget(bytes);
}

#[library_benchmark]
#[bench::accepted(World::new(ROUNDS))]
fn whole_request(mut world: World) {
    world.exchange_all();
    std::mem::forget(world);
}

library_benchmark_group!(
    name = stages,
    benchmarks = [authenticate_body, normalise, encode, window_of_repeats, encode_frame, decode_frame, whole_request]
);

/// No cache of glibc's allocator ever overflows, so that what is freed is what is taken next.
const ALLOCATOR: &str = "glibc.malloc.tcache_count=65535";

main!(
    config = LibraryBenchmarkConfig::default()
        .env("GLIBC_TUNABLES", ALLOCATOR)
        .tool(Callgrind::with_args(["--cache-sim=no"]))
        // The stack of a request is deep, and DHAT has to see this file at the end of it.
        .tool(Dhat::with_args(["--num-callers=200"])),
    library_benchmark_groups = [stages]
);
