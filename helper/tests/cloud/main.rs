//! RAM identities, from the real program to a strict model of the cloud on loopback, and on to real
//! registries with the logins they got.
#![allow(clippy::print_stdout, reason = "the harness shows it when a test fails")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cache;
mod cloud;
mod errors;
mod http;
mod identities;
mod places;
mod registries;
mod verify;
