//! `smartbuild key`.

use super::{Exit, carry_out};
use crate::{
    report,
    run::{self, World},
    settings::Request,
};

pub(super) fn run(request: &Request) -> Result<Exit, run::Error> {
    let world = World::new(request);
    let prepared = carry_out(run::prepare(request, &world))?;
    world.reporter.preparation(&prepared);
    if request.json {
        report::json(&serde_json::json!({
            "key": prepared.key,
            "skippable": prepared.not_skippable.is_none(),
            "reason": prepared.not_skippable,
        }))?;
    } else {
        report::text(&prepared.key.to_string())?;
    }
    Ok(Exit::Done)
}
