//! The whole program: as clients call it, as people call it, against real registries and stores.
#![allow(clippy::print_stdout, reason = "the harness shows it when a test fails")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ci_variables;
mod clients;
mod commands;
mod keys;
mod misuse;
mod person;
mod rig;
mod secret_service;
mod session;
mod surroundings;
mod terminal;
mod torture;
