//! The integration tests: one binary, one module a subject, so that they share brokers.
//!
//! Promise: nothing in here skips. What a test needs and does not find (Java, Maven, a broker that starts) is a
//! failure that says how to mend it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "real processes are watched by real clocks")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the test harness shows what a failed test printed")]

mod brokers_lost;
mod callback;
mod canaries;
mod clock_offset;
mod config;
mod consumers;
mod credentials;
mod dead_letters;
mod deploy;
mod faults;
mod fuzz_corpus;
mod getting_started;
mod hardening;
mod hostile;
mod http;
mod keys;
mod kinds;
mod ladder_simulation;
mod length_extension;
mod lifecycle;
mod misconfigured;
mod monitoring;
mod name_server;
mod other_events;
mod outage;
mod places;
mod real_dead_letters;
mod real_kafka;
mod real_kafka_check;
mod real_kafka_credentials;
mod real_kafka_security;
mod refused_then_taken;
mod repeats;
mod repeats_window;
mod replay;
mod restarts;
mod schemas;
mod secrets;
mod soak;
mod spool_commands;
mod spool_disk;
mod spool_drain;
mod spool_format;
mod spool_model;
mod starvation;
mod status;
mod status_page;
mod stuck;
mod support;
mod support_app;
mod terminal;
mod tidy;
mod tls;
mod trace;
mod volumes;
