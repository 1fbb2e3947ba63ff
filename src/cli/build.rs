//! `smartbuild build`.

use std::path::Path;

use serde_json::json;

use super::{Exit, carry_out};
use crate::{
    report::{self, Report},
    run::{self, World},
    settings::{Progress, Request, Verbosity},
};

pub(super) fn run(request: &Request) -> Result<Exit, run::Error> {
    let files = [&request.iidfile, &request.metadata_file];
    for path in files.into_iter().flatten() {
        // What a build before this one wrote would be taken for what this one made, if it fails.
        report::remove_file(path).map_err(|source| unwritten(path, source))?;
    }
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
    let identifier = if request.is_for_the_engine() {
        report.image_id.as_ref().or(report.digest.as_ref())
    } else {
        report.digest.as_ref().or(report.image_id.as_ref())
    };
    if let (Some(path), Some(identifier)) = (&request.iidfile, identifier) {
        report::file(path, identifier.to_string().as_bytes())
            .map_err(|source| unwritten(path, source))?;
    }
    if let Some(path) = &request.metadata_file {
        report::file(path, metadata(&report).to_string().as_bytes())
            .map_err(|source| unwritten(path, source))?;
    }
    if request.json {
        report::json(&report)?;
    } else if let (true, Some(identifier)) = (request.verbosity == Verbosity::Quiet, identifier) {
        report::text(&identifier.to_string())?;
    }
    Ok(Exit::Done)
}

fn unwritten(path: &Path, source: std::io::Error) -> run::Error {
    run::Error::Write { path: path.display().to_string(), source }
}

/// What buildx writes with `--metadata-file` (buildx `commands/build.go`), as far as it is known, and
/// the key.
fn metadata(report: &Report) -> serde_json::Value {
    let names: Vec<_> = report.tags.iter().map(|tag| tag.reference.to_string()).collect();
    let mut metadata = json!({
        "image.name": names.join(","),
        "io.smartbuild.key": report.key,
        "io.smartbuild.outcome": report.outcome,
    });
    if let Some(digest) = &report.digest {
        metadata["containerimage.digest"] = json!(digest);
    }
    if let Some(id) = &report.image_id {
        metadata["containerimage.config.digest"] = json!(id);
    }
    metadata
}
