//! `smartbuild check`.

use super::{Exit, carry_out};
use crate::{
    report,
    run::{self, World},
    settings::Request,
};

pub(super) fn run(request: &Request) -> Result<Exit, run::Error> {
    let world = World::new(request);
    let verdict = carry_out(&world, run::check(request, &world))?;
    if request.json {
        report::json(&verdict)?;
    } else {
        world.reporter.verdict(&verdict);
    }
    Ok(if verdict.hit { Exit::Done } else { Exit::BuildFailed })
}
