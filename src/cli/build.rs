//! `smartbuild build`.

use super::{Exit, carry_out};
use crate::{
    report,
    run::{self, World},
    settings::{Progress, Request, Verbosity},
};

pub(super) fn run(request: &Request) -> Result<Exit, run::Error> {
    let mut world = World::new(request);
    if request.progress == Progress::Rawjson {
        world.reporter = world.reporter.raw();
    }
    let progress = report::progress::watch(request.progress);
    let built = carry_out(&world, run::build(request, &world, &*progress));
    // What is drawn gives way to what is said about how it ended.
    drop(progress);
    let report = built?;
    world.reporter.finish(&report);
    world.reporter.detail(|| world.conversation());
    let identifier = report.digest.as_ref().or(report.image_id.as_ref());
    if let (Some(path), Some(identifier)) = (&request.iidfile, identifier) {
        std::fs::write(path, identifier.to_string())
            .map_err(|source| run::Error::Write { path: path.display().to_string(), source })?;
    }
    if request.json {
        report::json(&report)?;
    } else if let (true, Some(identifier)) = (request.verbosity == Verbosity::Quiet, identifier) {
        report::text(&identifier.to_string())?;
    }
    Ok(Exit::Done)
}
