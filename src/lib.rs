//! recording-bridge takes the recording callbacks of Tencent Cloud live streaming and publishes them to Kafka.
//!
//! **A 200 means the event is safe: Kafka acknowledged it with acks=all, or it is synced in the spool.** Nothing else is
//! ever answered with a 200, save an authentic callback of a kind that is not published, or one that makes no event and is
//! synced among the dead letters.
//!
//! The path of a callback is a value that can only move forward; each step is a type with one constructor, so that
//! none can be left out:
//!
//! ```text
//! socket → http::intake → callback::authenticate → normalise → Message::encode → Delivery::deliver → http::answer
//! bytes    body           AuthenticCallback        RecordingEvent   Message        Receipt             200
//!          └── every step may end in a Refusal; http::answer alone makes it one status, one label, one log line ──┘
//! ```
//!
//! Modules from the bottom up; each imports only from those above it in this list:
//!
//! - [`clock`], [`event`], [`refusal`]: time, facts, and every reason for saying no.
//! - [`callback`]: bytes in, authentic facts out; pure. [`message`]: facts in, Kafka's bytes out; pure.
//! - [`kafka`]: the producer. [`spool`]: the segment log on the local disk. [`metrics`]: what is counted.
//! - [`status`]: the last callbacks and the last hour, as operators are shown them.
//! - [`delivery`]: a message in, a receipt or an error out.
//! - [`http`]: the listeners.
//! - [`config`], [`shutdown`], [`app`]: how it is set up, wired, started and stopped.
//! - [`cli`]: the commands.
//!
//! Without the feature `librdkafka` there is no adapter to Kafka, and neither `app` nor `cli`; the rest is the same.

#[cfg(feature = "librdkafka")]
pub mod app;
pub mod callback;
#[cfg(feature = "librdkafka")]
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod event;
pub mod http;
pub mod kafka;
pub mod message;
pub mod metrics;
pub mod refusal;
#[cfg_attr(not(feature = "librdkafka"), allow(dead_code, reason = "only `app` hears signals"))]
pub mod shutdown;
pub mod spool;
pub mod status;
