//! `smartbuild explain`.

use std::path::Path;

use super::{Exit, carry_out};
use crate::{
    report,
    run::{self, Side, World},
    settings::Request,
};

/// `tagged` says whether a tag was typed: a directory alone is then what its image is compared with.
pub(super) fn run(request: &Request, sides: &[String], tagged: bool) -> Result<Exit, run::Error> {
    let world = World::new(request);
    let mut sides = sides.iter().cloned().map(Side::Named);
    let (before, after) = match (sides.next(), sides.next()) {
        (Some(Side::Named(only)), None) if tagged && Path::new(&only).is_dir() => {
            (None, Side::Named(only))
        }
        (before, after) => (before, after.unwrap_or(Side::Here)),
    };
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
