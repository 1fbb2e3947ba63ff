//! `smartbuild inputs`.

use serde::Serialize;

use super::{Exit, carry_out};
use crate::{
    inputs::{Inputs, Key},
    report,
    run::{self, World},
    settings::Request,
};

/// What `--json` prints: the key, and everything in it.
#[derive(Serialize)]
struct Listing<'a> {
    key: Key,
    skippable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(flatten)]
    inputs: &'a Inputs,
}

pub(super) fn run(request: &Request) -> Result<Exit, run::Error> {
    let world = World::new(request);
    let prepared = carry_out(run::prepare(request, &world))?;
    world.reporter.preparation(&prepared);
    if request.json {
        let reason = prepared.not_skippable.as_deref();
        report::json(&Listing {
            key: prepared.key,
            skippable: reason.is_none(),
            reason,
            inputs: &prepared.inputs,
        })?;
    } else {
        report::text(&report::listing(prepared.key, &prepared.inputs))?;
    }
    Ok(Exit::Done)
}
