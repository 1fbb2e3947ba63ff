//! `smartbuild prune`.

use clap::Args;
use jiff::SignedDuration;

use super::{Exit, carry_out};
use crate::{
    report,
    run::{self, Fate, Keep, World},
    settings::{self, Environment, Verbosity},
};

/// Delete images of old keys from a registry, and their records
#[derive(Args, Clone, Debug)]
pub(super) struct PruneOptions {
    /// Repository to look through
    #[arg(value_name = "REPOSITORY")]
    repository: String,

    /// Keep what is younger, in days
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    older_than: u32,

    /// Keep the newest so many, however old
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    keep: usize,

    /// Only say what would be deleted
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Registry to speak to without TLS or with an unknown certificate; loopback always is
    #[arg(long, value_name = "HOST")]
    insecure_registry: Vec<String>,

    /// Write a report in JSON to stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &PruneOptions) -> Result<Exit, run::Error> {
    let environment = Environment::capture();
    settings::registry_timeout(&environment)?;
    let repository = settings::repository("REPOSITORY", &options.repository)?;
    let world = World::of(&environment, &options.insecure_registry, Verbosity::default());
    let younger_than = SignedDuration::from_hours(24 * i64::from(options.older_than));
    let keep = Keep { younger_than, newest: options.keep };
    let stored = carry_out(&world, run::prune(&world, &repository, keep, options.dry_run))?;
    if options.json {
        report::json(&stored)?;
        return Ok(Exit::Done);
    }
    let verb = if options.dry_run { "would delete" } else { "deleted" };
    for image in &stored {
        let created = image.created.map_or("?".to_owned(), |at| at.strftime("%F").to_string());
        let what = match image.fate {
            Fate::Deleted => verb.to_owned(),
            Fate::Tagged => format!("kept: {}", image.tags.join(", ")),
            Fate::Recent => "kept: recent".to_owned(),
            Fate::Unknown => "kept: of unknown age".to_owned(),
        };
        report::text(&format!("{} {created:>10} {what}", image.key))?;
    }
    let gone = stored.iter().filter(|image| image.fate == Fate::Deleted).count();
    world.reporter.say(&format!("{verb} {gone} of {} images", stored.len()));
    Ok(Exit::Done)
}
