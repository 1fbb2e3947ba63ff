//! `smartbuild key`.

use super::{Exit, carry_out};
use crate::{
    report,
    run::{self, World},
    settings::Request,
};

pub(super) fn run(request: &Request) -> Result<Exit, run::Error> {
    let world = World::new(request);
    let whole = carry_out(&world, run::prepare_all(request, &world))?;
    world.reporter.preparation(&whole.warnings(), whole.not_skippable().as_deref());
    if request.json {
        report::json(&serde_json::json!({
            "key": whole.key,
            "skippable": whole.not_skippable().is_none(),
            "reason": whole.not_skippable(),
        }))?;
    } else {
        report::text(&whole.key.to_string())?;
    }
    Ok(Exit::Done)
}
