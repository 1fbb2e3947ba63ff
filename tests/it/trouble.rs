//! Whole runs against a registry in trouble: every fault at every step of a hit and of a miss. What
//! the user sees, what the registry holds afterwards, and that the next run mends it.
//!
//! The table of `docs/registry.md` is printed by these tests.

use std::{fmt, time::Duration};

use smartbuild_test_rig::{Engine, Front, Image, Program, Ran, Registry, Rule, Work, unique};

use crate::{
    intact::held,
    many::all,
    pipeline::{PASSWORD, USER},
};

/// What a user sees of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing: it was tried again, or it did not matter.
    Fine,
    /// It worked, with a warning.
    Warned,
    /// A hit became a build, with a warning.
    Built,
    /// One sentence, and exit code 3.
    Failed,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fine => "-",
            Self::Warned => "warning",
            Self::Built => "build",
            Self::Failed => "error",
        })
    }
}

const FAULTS: [&str; 11] =
    ["401", "403", "404", "429", "500", "502", "503", "reset", "silence", "truncated", "digest"];

/// The rule of a fault at a kind of request; `None` where there is no such thing.
fn rule(fault: &str, method: &str, pattern: &str) -> Option<Rule> {
    let code = if fault == "429" { "TOOMANYREQUESTS" } else { "X" };
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"the reason"}}]}}"#);
    let has_body = method == "GET";
    let has_digest = pattern.contains("/manifests/");
    Some(match fault {
        "reset" => Rule::reset(),
        // It says nothing or, where there is something to say, one byte after the other.
        "silence" if has_body => Rule::drip(Duration::from_millis(100)),
        "silence" => Rule::hang(),
        "truncated" if has_body => Rule::truncate(10),
        "digest" if has_body => Rule::corrupt(),
        "digest" if has_digest => {
            Rule::pass().header("docker-content-digest", &format!("sha256:{}", "0".repeat(64)))
        }
        "truncated" | "digest" => return None,
        status => Rule::status(status.parse().unwrap()).body(body),
    })
}

/// A step of a run: a request of ours, and how each of [`FAULTS`] ends that lasts.
struct Step {
    name: &'static str,
    hit: bool,
    method: &'static str,
    pattern: &'static str,
    ends: &'static str,
}

/// `.` fine, `w` warning, `b` build, `e` error, ` ` no such fault; in the order of [`FAULTS`].
const STEPS: &[Step] = &[
    Step {
        name: "base image",
        hit: true,
        method: "GET",
        pattern: "/v2/base/*/manifests/*",
        ends: "eeeeeeeeeee",
    },
    Step {
        name: "image copied from",
        hit: true,
        method: "HEAD",
        pattern: "/v2/other/*/manifests/*",
        ends: "eeeeeeeee e",
    },
    Step {
        name: "key's tag",
        hit: true,
        method: "GET",
        pattern: "/v2/team/*/manifests/sb1-*",
        ends: "eebbbbbbbbb",
    },
    Step {
        name: "configuration",
        hit: true,
        method: "GET",
        pattern: "/v2/team/*/blobs/*",
        ends: "eeeeeeeeeee",
    },
    Step {
        name: "look at a tag",
        hit: true,
        method: "HEAD",
        pattern: "/v2/team/*/manifests/*",
        ends: "ee.eeeeee .",
    },
    Step {
        name: "move a tag",
        hit: true,
        method: "PUT",
        pattern: "/v2/team/*/manifests/*",
        ends: "eeeeeeeee e",
    },
    Step {
        name: "mount",
        hit: true,
        method: "POST",
        pattern: "/v2/mirror/*/blobs/uploads/",
        ends: "eeeeeeeee  ",
    },
    Step {
        name: "key's tag",
        hit: false,
        method: "GET",
        pattern: "/v2/team/*/manifests/sb1-*",
        ends: "ee.wwwww.w.",
    },
    Step {
        name: "what was pushed",
        hit: false,
        method: "GET",
        pattern: "/v2/team/*/manifests/sha256*",
        ends: "eeeeeeeeeee",
    },
    Step {
        name: "its configuration",
        hit: false,
        method: "GET",
        pattern: "/v2/team/*/blobs/*",
        ends: "eeeeeeeeeee",
    },
    Step {
        name: "look at a tag",
        hit: false,
        method: "HEAD",
        pattern: "/v2/team/*/manifests/latest",
        ends: "ee.eeeeee .",
    },
    Step {
        name: "a further tag",
        hit: false,
        method: "PUT",
        pattern: "/v2/team/*/manifests/latest",
        ends: "eeeeeeeee e",
    },
    Step {
        name: "record: look",
        hit: false,
        method: "HEAD",
        pattern: "/v2/team/*/blobs/*",
        ends: "ww.wwwwww  ",
    },
    Step {
        name: "record: begin",
        hit: false,
        method: "POST",
        pattern: "/v2/team/*/blobs/uploads/",
        ends: "wwwwwwwww  ",
    },
    Step {
        name: "record: content",
        hit: false,
        method: "PUT",
        pattern: "/v2/team/*/blobs/uploads/*",
        ends: "wwwwwwwww  ",
    },
    Step {
        name: "record: manifest",
        hit: false,
        method: "PUT",
        pattern: "/v2/team/*/manifests/sb1-*.inputs",
        ends: "wwwwwwwww w",
    },
    Step {
        name: "key's tag: look",
        hit: false,
        method: "HEAD",
        pattern: "/v2/team/*/manifests/sb1-*",
        ends: "ee.eeeeee .",
    },
    Step {
        name: "key's tag: put",
        hit: false,
        method: "PUT",
        pattern: "/v2/team/*/manifests/sb1-*",
        ends: "eeeeeeeee e",
    },
];

/// A project with a registry in trouble.
struct Project<'r> {
    registry: &'r Registry,
    front: Front,
    work: Work,
    name: String,
}

impl<'r> Project<'r> {
    /// One that has not been built.
    fn new(registry: &'r Registry) -> Self {
        let (front, work) = (Front::before(registry), Work::new());
        let host = front.host();
        let name = unique("app");
        // Names of its own, for an engine that all share remembers the images of names.
        for kind in ["base", "other"] {
            let image = Image::scratch().files(&[(kind, "x")]);
            registry.push(&format!("{kind}/{name}"), "1", &image);
        }
        let dockerfile = format!(
            "FROM {host}/base/{name}:1\nCOPY --from={host}/other/{name}:1 /other /\nCOPY own /\n"
        );
        work.write("Dockerfile", dockerfile).write("own", &name);
        Self { registry, front, work, name }
    }

    fn program(&self, command: &[&str]) -> Program {
        let host = self.front.host();
        let tags = [
            format!("-t={host}/team/{}:1", self.name),
            format!("-t={host}/team/{}:latest", self.name),
            format!("-t={host}/mirror/{}:1", self.name),
        ];
        Program::smartbuild(command)
            .args(tags)
            .engine(Engine::get())
            .env("SMARTBUILD_REGISTRY_TIMEOUT", "3")
            .env("REGISTRY_URL", host)
            .env("REGISTRY_USERNAME", USER)
            .env("REGISTRY_PASSWORD", PASSWORD)
    }

    fn push(&self) -> Ran {
        self.work.run(self.program(&["--push"]))
    }

    fn repository(&self) -> String {
        format!("team/{}", self.name)
    }

    /// Puts the image of the key there, without building it; `latest` is another.
    fn publish(&self) {
        let key = self.work.run(self.program(&["key"])).success();
        let image = Image::scratch().files(&[("own", &self.name)]);
        let image = image.label("io.smartbuild.key", key.stdout().trim_end());
        self.registry.push(&self.repository(), key.stdout().trim_end(), &image);
        self.registry.push(&self.repository(), "latest", &Image::scratch().files(&[("old", "x")]));
    }

    /// Everything that every tag leads to is there and true, whatever happened.
    fn check(&self) -> Result<(), String> {
        for repository in [self.repository(), format!("mirror/{}", self.name)] {
            let held = held(self.registry, &repository);
            if !held.faults.is_empty() {
                return Err(format!("{repository} holds {:?}", held.faults));
            }
        }
        Ok(())
    }

    /// With the trouble over, the next run makes everything right.
    fn mend(&self) -> Result<(), String> {
        self.front.heal();
        let ran = self.push();
        if ran.code() != 0 {
            return Err(format!("the next run fails: {}", ran.text()));
        }
        self.check()?;
        let here = held(self.registry, &self.repository());
        let there = held(self.registry, &format!("mirror/{}", self.name));
        let key = here.tags.iter().find(|(tag, _)| tag.starts_with("sb1-") && tag.len() == 68);
        let Some((_, digest)) = key else { return Err("there is no key's tag".to_owned()) };
        let names = [here.tags.get("1"), here.tags.get("latest"), there.tags.get("1")];
        if names.iter().any(|name| *name != Some(digest)) {
            return Err(format!("the names differ: {here:?} {there:?}"));
        }
        Ok(())
    }

    fn forget(&self) {
        Engine::get().forget(&format!("{}/team/{}:1", self.front.host(), self.name));
    }
}

/// How a run ended.
fn end_of(ran: &Ran, hit: bool) -> Result<End, String> {
    let lines: Vec<&str> = ran.stderr().lines().collect();
    let warned = lines.iter().any(|line| line.starts_with("smartbuild: warning: "));
    let errors = lines.iter().filter(|line| line.starts_with("smartbuild: error: ")).count();
    let built = lines.iter().any(|line| line.starts_with("smartbuild: building"));
    match (ran.code(), errors) {
        (0, 0) if hit && built => Ok(End::Built),
        (0, 0) if warned => Ok(End::Warned),
        (0, 0) => Ok(End::Fine),
        (3, 1) => Ok(End::Failed),
        (code, errors) => Err(format!("exit code {code} with {errors} errors")),
    }
}

/// One fault at one step.
fn run(registry: &Registry, step: &Step, rule: Rule) -> Result<End, String> {
    let project = Project::new(registry);
    if step.hit {
        project.publish();
    }
    project.front.on(step.method, step.pattern, rule.agent("smartbuild"));
    if !step.pattern.ends_with(".inputs") {
        project.front.on("PUT", "/v2/**/manifests/sb1-*.inputs", Rule::pass());
    }
    let ran = project.push();
    let end = end_of(&ran, step.hit).map_err(|wrong| format!("{wrong}: {}", ran.text()))?;
    project.check()?;
    project.mend()?;
    project.forget();
    Ok(end)
}

/// Every fault at every step, where there is such a thing.
fn cases() -> Vec<(&'static Step, usize, Rule)> {
    let case = |step: &'static Step, fault: usize| {
        Some((step, fault, rule(FAULTS[fault], step.method, step.pattern)?))
    };
    let faults = |step| (0..FAULTS.len()).filter_map(move |fault| case(step, fault));
    STEPS.iter().flat_map(faults).collect()
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_fault_that_lasts_is_told_and_the_next_run_mends_it() {
    let (registry, cases) = (Registry::open(), cases());
    let ends = all(&cases, |(step, _, rule)| run(&registry, step, rule.clone()));
    let mut wrong = Vec::new();
    let mut rows: Vec<String> = STEPS.iter().map(|_| " ".repeat(FAULTS.len())).collect();
    for ((step, fault, _), end) in cases.iter().zip(ends) {
        let place = STEPS.iter().position(|other| std::ptr::eq(other, *step)).unwrap();
        let letter = match &end {
            Ok(End::Fine) => ".",
            Ok(End::Warned) => "w",
            Ok(End::Built) => "b",
            Ok(End::Failed) => "e",
            Err(_) => "?",
        };
        rows[place].replace_range(*fault..=*fault, letter);
        if let Err(error) = end {
            wrong.push(format!("{} at {}: {error}", FAULTS[*fault], step.name));
        }
    }
    for (step, row) in STEPS.iter().zip(&rows) {
        println!("{} {:20} {row:?}", if step.hit { "hit " } else { "miss" }, step.name);
        if step.ends != row {
            wrong.push(format!("{}: {:?} instead of {row:?}", step.name, step.ends));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_fault_that_passes_is_not_seen() {
    let registry = Registry::open();
    let passing = |fault: &str| !matches!(fault, "401" | "403" | "404" | "digest");
    let cases: Vec<_> =
        cases().into_iter().filter(|(_, fault, _)| passing(FAULTS[*fault])).collect();
    let ends = all(&cases, |(step, _, rule)| run(&registry, step, rule.clone().times(2)));
    let mut wrong = Vec::new();
    for ((step, fault, _), end) in cases.iter().zip(ends) {
        if end != Ok(End::Fine) {
            wrong.push(format!("{} at {}: {end:?}", FAULTS[*fault], step.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn a_token_that_ends_in_the_middle_is_replaced() {
    let registry = Registry::token(USER, PASSWORD);
    let rule = Rule::status(401).header("www-authenticate", &registry.tokens().expired());
    let ends = all(STEPS, |step| run(&registry, step, rule.clone().authorized().times(1)));
    let mut wrong = Vec::new();
    for (step, end) in STEPS.iter().zip(ends) {
        if end != Ok(End::Fine) {
            wrong.push(format!("{}: {end:?}", step.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What an engine asks when it pushes.
const PUSH: [(&str, &str); 5] = [
    ("HEAD", "/v2/team/*/blobs/*"),
    ("POST", "/v2/team/*/blobs/uploads/"),
    ("PATCH", "/v2/team/*/blobs/uploads/*"),
    ("PUT", "/v2/team/*/blobs/uploads/*"),
    ("PUT", "/v2/team/*/manifests/*"),
];

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn an_engine_that_cannot_push_for_a_moment_is_asked_again_and_nothing_half_pushed_has_a_name() {
    let registry = Registry::open();
    let mut cases = Vec::new();
    for (method, pattern) in PUSH {
        for fault in FAULTS.into_iter().filter(|fault| !matches!(*fault, "truncated" | "digest")) {
            cases.extend(rule(fault, method, pattern).map(|rule| (method, pattern, fault, rule)));
        }
    }
    let ends = all(&cases, |(method, pattern, _, rule)| {
        let project = Project::new(&registry);
        project.front.on(method, pattern, rule.clone().agent("docker/").times(1));
        let ran = project.push();
        let end = end_of(&ran, false).map_err(|wrong| format!("{wrong}: {}", ran.text()))?;
        project.check()?;
        project.mend()?;
        project.forget();
        Ok::<_, String>(end)
    });
    let mut wrong = Vec::new();
    for ((method, pattern, fault, _), end) in cases.iter().zip(ends) {
        println!("{method} {pattern} {fault}: {end:?}");
        // What says that it is not allowed is believed; what is silent is not waited for.
        let told = matches!(*fault, "401" | "403" | "404" | "silence");
        if end != Ok(End::Fine) && !(told && end == Ok(End::Failed)) {
            wrong.push(format!("{fault} at {method} {pattern}: {end:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn an_engine_that_cannot_push_at_all_is_told_of_and_the_next_run_mends_it() {
    let registry = Registry::open();
    // What an engine repeats while it sends a layer takes one of the few places that it has for all, so
    // of these there is only what it does not repeat.
    let cases: Vec<_> = [(PUSH[2], "403"), (PUSH[2], "404")]
        .into_iter()
        .chain(["401", "403", "404", "429", "500", "reset"].map(|fault| (PUSH[4], fault)))
        .filter_map(|(step, fault)| Some((step, fault, rule(fault, step.0, step.1)?)))
        .collect();
    let ends = all(&cases, |((method, pattern), _, rule)| {
        let project = Project::new(&registry);
        project.front.on(method, pattern, rule.clone().agent("docker/"));
        let ran = project.push();
        let end = end_of(&ran, false).map_err(|wrong| format!("{wrong}: {}", ran.text()))?;
        project.check()?;
        let names = registry.tags(&project.repository());
        if !names.is_empty() {
            return Err(format!("there are names: {names:?}"));
        }
        project.mend()?;
        project.forget();
        Ok(end)
    });
    let mut wrong = Vec::new();
    for (((method, pattern), fault, _), end) in cases.iter().zip(ends) {
        if end != Ok(End::Failed) {
            wrong.push(format!("{fault} at {method} {pattern}: {end:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
