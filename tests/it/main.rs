//! The whole program against real engines and real registries, on the rig that `tests/run.sh` starts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod asking;
mod changing;
mod command_line;
mod demo;
mod dockerfile_differential;
mod engine;
mod failures;
mod intact;
mod keys;
mod kills;
mod main_job;
mod many;
mod pipeline;
mod platforms;
mod pruning;
mod publishing;
mod readers;
mod registry;
mod selection;
mod soundness;
mod stages;
mod stat_cache;
mod terminal;
mod trouble;
mod without_rights;
