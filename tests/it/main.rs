//! Integration tests: one binary, one module a subject.

mod callback;
mod config;
mod tidy;
