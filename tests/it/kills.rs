//! Runs that are killed, at every request and at random, and many at once: the next run ends as if
//! there had been only one, and no name ever leads to something half-pushed.

use std::{collections::BTreeSet, fs, path::PathBuf};

use smartbuild_test_rig::{Engine, Front, Image, Program, Registry, Rule, Running, Work, unique};

use crate::{intact::held, many::all};

/// A project behind a front, so that its requests can be held.
struct Project {
    registry: Registry,
    front: Front,
    work: Work,
    name: String,
}

impl Project {
    fn new() -> Self {
        let registry = Registry::open();
        registry.push("base", "1", &Image::scratch().files(&[("base", "x")]));
        let (front, work) = (Front::before(&registry), Work::new());
        // The base is asked for beside the front: it is not what is killed at.
        let dockerfile = format!("FROM {}\nCOPY own /\n", registry.name("base:1"));
        work.write("Dockerfile", dockerfile);
        let project = Self { registry, front, work, name: unique("killed") };
        project.change(&project.name);
        project
    }

    /// Other inputs, so that there is no image of them.
    fn change(&self, content: &str) {
        self.work.write("own", content);
    }

    fn repository(&self) -> String {
        format!("team/{}", self.name)
    }

    fn push(&self, tag: &str) -> Program {
        let image = format!("{}/{}", self.front.host(), self.repository());
        let tags = [format!("-t={image}:{tag}"), format!("-t={image}:latest")];
        Program::smartbuild(["--push", "--json"]).args(tags).engine(Engine::get())
    }

    fn key(&self) -> String {
        let ran = self.work.run(Program::smartbuild(["key"])).success();
        ran.stdout().trim_end().to_owned()
    }

    /// Nothing that has a name is broken or is not what the name says.
    fn check(&self, moment: &str) {
        let held = held(&self.registry, &self.repository());
        assert!(held.faults.is_empty(), "{moment}: {:?}", held.faults);
    }

    /// Runs once more: then the names are right.
    fn mend(&self, tag: &str, moment: &str) {
        self.work.run(self.push(tag)).success();
        self.check(moment);
        let held = held(&self.registry, &self.repository());
        let image = held.tags.get(&self.key());
        assert!(image.is_some(), "{moment}: {held:?}");
        assert_eq!((held.tags.get(tag), held.tags.get("latest")), (image, image), "{moment}");
    }

    /// A store of its own for buildah: the file that says so.
    fn own_store(&self) -> PathBuf {
        let home = self.work.home();
        let (file, root, run) = (home.join("storage.conf"), home.join("root"), home.join("run"));
        let text =
            format!("[storage]\ndriver = \"vfs\"\ngraphroot = {root:?}\nrunroot = {run:?}\n");
        fs::write(&file, text).unwrap();
        file
    }

    fn forget(&self, tag: &str) {
        let image = format!("{}/{}:{tag}", self.front.host(), self.repository());
        Engine::get().forget(&image);
    }
}

/// Starts a run and kills it at its request number `at`, before the registry has seen it or after it
/// has done what it was asked; `false` when the run ended before that request.
fn kill_at(project: &Project, tag: &str, at: usize, done: bool) -> bool {
    let rule = if done { Rule::swallow() } else { Rule::hang() };
    project.front.on("*", "/v2/**", rule.skip(at));
    let mut running = project.work.start(project.push(tag));
    let held = project.front.wait_for_parked(|| !running.is_running());
    if held {
        running.signal("KILL");
        running.wait();
    } else {
        running.wait().success();
    }
    project.front.heal();
    held
}

/// Kills a run at every request that an undisturbed one makes, each in a project of its own.
fn kill_everywhere(least: usize, prepare: impl Fn(&Project) + Sync) {
    let whole = Project::new();
    prepare(&whole);
    whole.front.forget();
    whole.work.run(whole.push("t")).success();
    let requests = whole.front.seen().len();
    assert!(requests >= least, "only {requests} requests were seen");
    let moments: Vec<_> = [false, true]
        .into_iter()
        .flat_map(|done| (0..requests).map(move |at| (at, done)))
        .collect();
    let killed = all(&moments, |&(at, done)| {
        let project = Project::new();
        prepare(&project);
        let killed = kill_at(&project, "t", at, done);
        let moment = format!("killed at request {at}, done: {done}");
        project.check(&moment);
        project.mend("t", &moment);
        project.forget("t");
        killed
    });
    let killed = killed.into_iter().filter(|killed| *killed).count();
    #[expect(clippy::print_stdout, reason = "it is seen only where a test fails")]
    {
        println!("{requests} requests; {killed} of {} runs were killed", moments.len());
    }
    // Engines do not ask the same number of questions each time.
    assert!(killed * 10 >= moments.len() * 8);
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_miss_can_be_killed_at_every_request() {
    kill_everywhere(15, |_| ());
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_hit_can_be_killed_at_every_request() {
    kill_everywhere(5, |project| drop(project.work.run(project.push("first")).success()));
}

/// Twenty pipelines on one key, of which those that `doomed` names are killed after a time.
fn pipelines(project: &Project, doomed: impl Fn(usize) -> bool, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut running: Vec<(usize, Running)> =
        (0..20).map(|n| (n, project.work.start(project.push(&format!("p{n}"))))).collect();
    // A kill at a number of requests that is drawn, so that it hits different moments.
    while let Some(place) = running.iter().position(|(n, _)| doomed(*n)) {
        let (_, mut victim) = running.swap_remove(place);
        let at = project.front.seen().len() + random.usize(0..40);
        while project.front.seen().len() < at && victim.is_running() {
            std::thread::yield_now();
        }
        if victim.is_running() {
            victim.signal("KILL");
        }
        victim.wait();
    }
    let ended: Vec<_> = running.into_iter().map(|(n, running)| (n, running.wait())).collect();
    project.check("all ended");
    let held = held(&project.registry, &project.repository());
    let image = held.tags.get(&project.key()).expect("the key's tag");
    let mut images = BTreeSet::from([image]);
    for (n, ran) in ended {
        assert_eq!(ran.code(), 0, "pipeline {n}: {}", ran.text());
        images.insert(held.tags.get(&format!("p{n}")).expect("its tag"));
    }
    images.insert(held.tags.get("latest").expect("latest"));
    assert_eq!(images.len(), 1, "{images:?}");
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn twenty_pipelines_at_once_make_one_image() {
    let project = Project::new();
    pipelines(&project, |_| false, 0);
    project.forget("p0");
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn twenty_pipelines_of_which_some_are_killed_make_one_image() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let project = Project::new();
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..3 {
        project.change(&format!("{seed} {round}"));
        let doomed: BTreeSet<usize> = (0..10).map(|_| random.usize(0..20)).collect();
        pipelines(&project, |n| doomed.contains(&n), random.u64(..));
        for n in doomed {
            project.mend(&format!("p{n}"), &format!("round {round}, pipeline {n}"));
        }
        project.forget("latest");
    }
}

/// The requests of a run that publishes, until the key's tag is there for others to find.
const PUBLICATION: [(&str, &str, usize); 4] = [
    ("PUT", "/v2/team/*/manifests/latest", 0),
    ("PUT", "/v2/team/*/manifests/sb1-*.inputs", 0),
    ("HEAD", "/v2/team/*/manifests/sb1-*", 0),
    ("PUT", "/v2/team/*/manifests/sb1-*", 1),
];

/// Two engines build one key, so that there are two images of it. One run is held at a request, the
/// other comes and ends; then the first goes on.
#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_run_that_is_overtaken_anywhere_takes_over_the_others_image() {
    let cases: Vec<_> = PUBLICATION
        .iter()
        .flat_map(|held| [(held, ["docker", "buildah"]), (held, ["buildah", "docker"])])
        .collect();
    all(&cases, |((method, pattern, skip), engines)| {
        let moment = format!("{} held at {method} {pattern} {skip}", engines[0]);
        let project = Project::new();
        let engine = |n: usize| project.push(engines[n]).args([format!("--engine={}", engines[n])]);
        // Stores that are shared lose layers between a look and its use (buildah 1.28).
        let store = project.own_store();
        let push = |n: usize| engine(n).env("CONTAINERS_STORAGE_CONF", &store);
        project.front.on(method, pattern, Rule::hang().skip(*skip).times(1));
        let mut first = project.work.start(push(0));
        assert!(project.front.wait_for_parked(|| !first.is_running()), "{moment}");
        let second = project.work.run(push(1)).success().json();
        project.front.heal();
        let first = first.wait().success().json();
        assert_ne!(first["image_id"], second["image_id"], "{moment}: they built two images");
        project.check(&moment);
        let held = held(&project.registry, &project.repository());
        let names = [engines[0], engines[1], "latest", &project.key()].map(|tag| &held.tags[tag]);
        assert_eq!(BTreeSet::from(names).len(), 1, "{moment}: {held:?}");
        project.forget("docker");
    });
}
