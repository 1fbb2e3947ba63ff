//! Real engines, real registries, and the few servers of our own that the tests run against.
//!
//! Everything here listens on a free loopback port, has its own temporary directory and ends when
//! it is dropped, so tests run side by side and in any order. What a test did (commands, outputs,
//! the servers' logs) is printed; the test harness shows it when the test fails.
//!
//! | to have | write |
//! |---|---|
//! | a registry (Debian's `docker-registry`) | [`Registry::open`], [`Registry::htpasswd`], [`Registry::token`], [`Registry::builder`] |
//! | an image in it, without any engine | [`Registry::push`] with [`Image::base`] or [`Image::scratch`] |
//! | a registry that misbehaves | [`Front::before`] a real one, or [`Front::alone`] |
//! | a registry that is far away | [`Far::from`] |
//! | a git repository that is served (Debian's `git daemon`) | [`GitServer::start`] |
//! | the engine | [`Engine::get`] |
//! | a directory, and our programs run in it | [`Work`], [`Work::run`] |
//! | a terminal window | [`Terminal::open`] |
//! | a repository name of one's own | [`unique`] |
//!
//! A test that uses a program of the distribution (a registry, an engine) carries
//! `#[ignore = "needs ...: run tests/run.sh"]`; that script brings them and runs every test.

#![forbid(unsafe_code)]
#![allow(clippy::missing_panics_doc, reason = "a rig panics where a test has to fail")]
#![allow(clippy::unwrap_used, reason = "a rig panics where a test has to fail")]
#![allow(clippy::print_stdout, reason = "the harness shows it when a test fails")]

mod access_log;
mod command;
mod credentials;
mod engine;
mod far;
mod front;
mod git;
mod image;
mod registry;
mod runtime;
mod server;
mod terminal;
mod token;
mod watch;
mod work;

pub use access_log::Entry;
pub use command::{Program, Ran, Running};
pub use engine::Engine;
pub use far::Far;
pub use front::{Front, Rule, Seen};
pub use git::GitServer;
pub use image::{Image, sha256};
pub use registry::{Registry, RegistryBuilder};
pub use terminal::Terminal;
pub use token::{TokenRequest, TokenService};
pub use watch::{Watch, files_with};
pub use work::Work;

/// A name that no other test uses: `name` with a random end, fit for repositories and containers.
#[must_use]
pub fn unique(name: &str) -> String {
    use ring::rand::SecureRandom;
    let mut end = [0; 5];
    ring::rand::SystemRandom::new().fill(&mut end).unwrap();
    format!("{name}-{}", hex::encode(end))
}
