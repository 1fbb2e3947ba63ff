//! `smartbuild explain`.

use super::{Exit, carry_out};
use crate::{
    report,
    run::{self, Side, World},
    settings::Request,
};

pub(super) fn run(request: &Request, sides: &[String]) -> Result<Exit, run::Error> {
    let world = World::new(request);
    let mut sides = sides.iter().cloned().map(Side::Named);
    let (before, after) = (sides.next(), sides.next().unwrap_or(Side::Here));
    let difference = carry_out(&world, run::explain(request, &world, before, after))?;
    if request.json {
        report::json(&difference)?;
    } else if difference.is_empty() {
        report::text("nothing differs: it is the same key")?;
    } else {
        let lines: Vec<String> = difference.changes.iter().map(ToString::to_string).collect();
        report::text(&lines.join("\n"))?;
    }
    Ok(Exit::Done)
}
