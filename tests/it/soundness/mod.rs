//! The key held against real engines.
//!
//! A generator makes small contexts with Dockerfiles, and changes one thing at a time. Both variants
//! are built for real, without cache, by the engine's own client. The key is
//!
//! - **sound** when it differs wherever the images differ. There is no exception;
//! - **tight** when it stays wherever the change is one that no image can see. Where a change is one
//!   that an image could have seen and this image did not (a command that does the same, a file that a
//!   later stage leaves behind), a moved key is counted by the kind of change, and printed.
//!
//! `SMARTBUILD_TEST_PAIRS` says how many pairs are built, `SMARTBUILD_TEST_SEED` where the seeds begin
//! (a random place otherwise): with one of a report, and 1 pair, its case is built again.
//! `SMARTBUILD_TEST_CHANGE` leaves only the changes with this in their names.
//! `SMARTBUILD_TEST_BUILDKIT_HOST` is the address of a `buildkitd` to ask, by `buildctl`, instead of the
//! engine: it may know a newer language. The same is done with the images that `smartbuild` itself
//! builds; [`clients`] holds these against those of the engine's own client, and [`wire`] what is sent
//! for them against what is in the key.

mod built;
mod case;
mod clients;
mod maker;
mod mutation;
mod oracle;
mod recipe;
mod selection;
mod servers;
mod summary;
mod tree;
mod wire;

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use fastrand::Rng;
use smartbuild::{
    cli::BuildOptions,
    inputs::Difference,
    run::{Error, Prepared, World, prepare},
    settings::{Environment, Request},
};
use smartbuild_test_rig::Engine;

use built::Built;
use case::{Case, Laid};
use mutation::{Mutation, Sight};
use oracle::{Features, Oracle};
use servers::Servers;
use summary::{Summary, Verdict};

/// How many builds run at a time.
const WORKERS: usize = 2;
/// How many changes of one case are built.
const CHANGES: usize = 8;

#[test]
#[ignore = "needs an engine and a registry: run tests/run.sh"]
fn the_key_moves_when_the_image_does_and_stays_when_it_cannot() {
    pairs(&Bench::new(), number("SMARTBUILD_TEST_PAIRS").unwrap_or(70));
}

#[test]
#[ignore = "needs an engine and a registry: run tests/run.sh"]
fn the_key_moves_when_the_image_that_we_build_does() {
    pairs(&Bench::with(Oracle::ours()), number("SMARTBUILD_TEST_PAIRS").unwrap_or(30));
}

/// Holds so many pairs of keys against their images.
fn pairs(bench: &Bench, pairs: u64) {
    let summary = Mutex::new(Summary::default());
    let first = number("SMARTBUILD_TEST_SEED").unwrap_or_else(|| u64::from(Rng::new().u32(..)));
    let seeds = AtomicU64::new(first);
    summary::say(&format!("soundness: {pairs} pairs from seed {first}"));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while summary.lock().unwrap().built() < pairs {
                    bench.case(seeds.fetch_add(1, Ordering::Relaxed), &summary);
                }
            });
        }
    });
    let summary = summary.into_inner().unwrap();
    summary::say(&summary.to_string());
    assert!(summary.faults.is_empty(), "{}", summary.faults.join("\n"));
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// What all cases share.
struct Bench {
    oracle: Oracle,
    features: Features,
    servers: Servers,
    environment: Environment,
    home: tempfile::TempDir,
}

/// A case, its key and its image.
struct Variant {
    prepared: Result<Prepared, Error>,
    /// `None` where nothing was built.
    built: Option<Result<Built, String>>,
}

impl Bench {
    fn new() -> Self {
        Self::with(Oracle::find())
    }

    fn with(oracle: Oracle) -> Self {
        let servers = Servers::start();
        let features = oracle.features(&servers);
        let home = tempfile::tempdir().unwrap();
        let environment = Environment::empty()
            .with_home(home.path())
            .with_directory(home.path())
            .with("DOCKER_HOST", Engine::get().host());
        Self { oracle, features, servers, environment, home }
    }

    /// One case and some changes of it.
    fn case(&self, seed: u64, summary: &Mutex<Summary>) {
        let base = maker::case(seed, self.features);
        self.servers.publish(&base, None);
        let before = self.variant(&base, true);
        if let Some(fault) = refused(&before) {
            summary.lock().unwrap().fault(seed, "the case itself", &fault, &base, &base);
        }
        let Some(Ok(_)) = before.built else {
            return summary.lock().unwrap().unbuildable();
        };
        let mut rng = Rng::with_seed(seed ^ 0x5eed);
        let only = std::env::var("SMARTBUILD_TEST_CHANGE").unwrap_or_default();
        let mut changes: Vec<&Mutation> =
            mutation::all().filter(|mutation| mutation.name.contains(&only)).collect();
        rng.shuffle(&mut changes);
        let mut left = CHANGES;
        for mutation in changes {
            let mut changed = base.clone();
            let sight = match (mutation.apply)(&mut changed, &mut rng) {
                Some(Sight::NothingServed) if self.oracle.is_ours() => Sight::Nothing,
                Some(sight) => sight,
                None => continue,
            };
            if changed == base && mutation.name != "built again" {
                continue;
            }
            // That the engine sees nothing of what nobody can see is worth a look now and then; that
            // the key does not is known without a build.
            let build = left > 0
                && match sight {
                    Sight::Open => true,
                    Sight::Nothing => rng.u8(..8) == 0,
                    Sight::NothingServed => false,
                };
            if build || sight != Sight::Open {
                left -= usize::from(build);
                let after = self.change(&base, &changed, build);
                let (verdict, fault) = judge(&before, &after, sight);
                let mut summary = summary.lock().unwrap();
                summary.count(mutation.name, verdict);
                if let Some(fault) = fault.or_else(|| refused(&after)) {
                    summary.fault(seed, mutation.name, &fault, &base, &changed);
                }
            }
        }
    }

    /// The changed variant, with what it needs on the servers meanwhile.
    fn change(&self, base: &Case, changed: &Case, build: bool) -> Variant {
        self.servers.publish(changed, Some(base));
        let after = self.variant(changed, build);
        self.servers.publish(base, Some(changed));
        after
    }

    fn variant(&self, case: &Case, build: bool) -> Variant {
        let hosts = self.servers.hosts();
        let laid = case.lay(&hosts);
        let prepared = self.prepare(case, &laid);
        let built = build.then(|| self.oracle.case(case, &laid, &hosts));
        Variant { prepared, built }
    }

    /// The key as the program would compute it.
    fn prepare(&self, case: &Case, laid: &Laid) -> Result<Prepared, Error> {
        let mut options =
            BuildOptions { file: Some(laid.dockerfile()), quiet: true, ..BuildOptions::default() };
        for (name, value) in case.options(laid, &self.servers.hosts()) {
            match name {
                "build-arg" => options.build_arg.push(value),
                "build-context" => options.build_context.push(value),
                "label" => options.label.push(value),
                "platform" => options.platform.push(value),
                "secret" => options.secret.push(value),
                "target" => options.target = Some(value),
                name => panic!("what is --{name}?"),
            }
        }
        let environment =
            self.environment.clone().with("DOCKER_CONFIG", laid.config().to_str().unwrap());
        self.prepare_in(&environment, &options, &laid.context())
    }

    fn prepare_with(&self, options: &BuildOptions, context: &Path) -> Result<Prepared, Error> {
        self.prepare_in(&self.environment, options, context)
    }

    fn prepare_in(
        &self,
        environment: &Environment,
        options: &BuildOptions,
        context: &Path,
    ) -> Result<Prepared, Error> {
        assert!(self.home.path().exists());
        let request = Request::new(options, Some(context.to_owned()), environment)?;
        let world = World::new(&request);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(prepare(&request, &world))
    }
}

/// A build that the engine does and the program refuses.
fn refused(variant: &Variant) -> Option<String> {
    match (&variant.prepared, &variant.built) {
        (Err(error), Some(Ok(_))) => Some(format!("REFUSED, and the engine builds it: {error}")),
        _ => None,
    }
}

/// Holds two keys against two images.
fn judge(before: &Variant, after: &Variant, sight: Sight) -> (Verdict, Option<String>) {
    let (Ok(one), Ok(two)) = (&before.prepared, &after.prepared) else {
        return (Verdict::Refused, None);
    };
    let same_key = one.key == two.key;
    let inputs = Difference::between(&one.inputs, &two.inputs);
    let what: Vec<String> = inputs.changes.iter().map(ToString::to_string).collect();
    let what = what.join("\n  ");
    if two.not_skippable.is_some() {
        return (Verdict::NotSkippable, None);
    }
    let Some(image) = &after.built else {
        let fault = (!same_key).then(|| format!("WASTEFUL: the key moved:\n  {what}"));
        return (if same_key { Verdict::Kept } else { Verdict::Moved }, fault);
    };
    let Some(Ok(old)) = &before.built else { return (Verdict::Fails, None) };
    let seen = match image {
        Ok(new) if old == new => None,
        Ok(new) => Some(old.difference(new)),
        Err(text) => Some(format!("  it no longer builds:\n{text}")),
    };
    match (seen, same_key) {
        (Some(seen), true) => {
            (Verdict::Stale, Some(format!("STALE: the key stayed and the image differs:\n{seen}")))
        }
        (Some(seen), false) if sight == Sight::Nothing => (
            Verdict::Differs,
            Some(format!("NOT INVISIBLE, against what the test believes:\n{seen}  {what}")),
        ),
        (Some(_), false) if image.is_err() => (Verdict::Fails, None),
        (Some(_), false) => (Verdict::Differs, None),
        (None, true) => (Verdict::Same, None),
        (None, false) if sight == Sight::Nothing => {
            (Verdict::Moved, Some(format!("WASTEFUL: the key moved:\n  {what}")))
        }
        (None, false) => (Verdict::Moved, None),
    }
}
