//! recording-bridge: recording callbacks of Tencent Cloud live streaming in, recording events on Kafka out.
pub mod callback;
pub mod clock;
pub mod delivery;
pub mod event;
pub mod http;
pub mod kafka;
pub mod message;
pub mod metrics;
pub mod refusal;
pub mod shutdown;
