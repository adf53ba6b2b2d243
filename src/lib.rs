//! recording-bridge: recording callbacks of Tencent Cloud live streaming in, recording events on Kafka out.
pub mod clock;
pub mod event;
pub mod message;
pub mod refusal;
