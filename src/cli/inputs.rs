//! `smartbuild inputs`.

use serde::Serialize;

use super::{Exit, carry_out};
use crate::{
    inputs::{Inputs, Key},
    report,
    run::{self, Prepared, World},
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
    let whole = carry_out(&world, run::prepare_all(request, &world))?;
    world.reporter.preparation(&whole.warnings(), whole.not_skippable().as_deref());
    let parts = whole.parts.iter().map(|part| &part.prepared);
    if request.json {
        let listings: Vec<_> = parts.map(listing).collect();
        match listings.as_slice() {
            [only] => report::json(only)?,
            parts => report::json(&serde_json::json!({ "key": whole.key, "parts": parts }))?,
        }
    } else {
        let listings: Vec<_> = parts.map(|part| report::listing(part.key, &part.inputs)).collect();
        report::text(&listings.join("\n"))?;
    }
    Ok(Exit::Done)
}

fn listing(prepared: &Prepared) -> Listing<'_> {
    let reason = prepared.not_skippable.as_deref();
    Listing { key: prepared.key, skippable: reason.is_none(), reason, inputs: &prepared.inputs }
}
