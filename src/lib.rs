//! `smartbuild`: `docker build` and `docker push` that know when there is nothing to do.
//!
//! The way of the data, and the room each part lives in:
//!
//! ```text
//! command line + environment + smartbuild.toml        cli, settings
//!    -> request     what the user wants
//!    -> dockerfile  text -> stages reachable from the target
//!    -> context     the files those stages select, hashed
//!    -> registry    digests of the images those stages start from or copy from
//!    => inputs      the typed list of all of it -> the key
//!    -> registry    is the key's tag there, and is it what it says?
//!    -> plan        hit: retag | miss: build, and why
//!    -> engine      build exactly these inputs; push
//!    -> report      people (stderr), JSON (stdout), CI files
//! ```
//!
//! [`dockerfile`], [`inputs`], [`plan`] and the ignore matcher take values and return values; they
//! do no I/O. The edges ([`context`], [`registry`], [`engine`], [`credentials`]) each hide one
//! outside thing.

pub mod cli;
pub mod context;
pub mod credentials;
pub mod dockerfile;
pub mod engine;
pub mod inputs;
pub mod layer_cache;
mod nearest;
pub mod plan;
pub mod platform;
pub mod registry;
pub mod report;
pub mod run;
pub mod settings;
