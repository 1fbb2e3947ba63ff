//! BuildKit's progress, turned into events, and its failures, turned into errors.
//!
//! BuildKit speaks of *vertexes*, each known by a digest and told of again and again. People think
//! in steps, so that each vertex becomes one.

use std::{collections::HashMap, time::Duration};

use bollard_buildkit_proto::{
    google::protobuf::Timestamp,
    moby::buildkit::v1::{StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning},
};

use crate::{
    dockerfile::{Counted, Place},
    engine::{
        build::BuildError,
        error::Error,
        log::Log,
        progress::{Amount, Event, Progress, StepId, Stream},
    },
    layer_cache::LayerCache,
};

/// How the step is called that looks for a cache in a registry (buildkit
/// `cache/remotecache/registry`, `solver/llbsolver/bridge.go`).
const IMPORT: &str = "importing cache manifest from ";

/// What is known of a build under way.
#[derive(Default)]
pub(super) struct Trace {
    steps: Vec<Step>,
    by_digest: HashMap<String, usize>,
    failed: Option<usize>,
    /// The references of caches that nothing is said of where they are not there.
    unmissed: Vec<String>,
}

#[derive(Default)]
struct Step {
    name: String,
    started: bool,
    ended: bool,
    error: String,
    log: Log,
}

impl Trace {
    /// That of a build which takes from these caches.
    pub(super) fn new(caches: &[LayerCache]) -> Self {
        let references = caches.iter().filter(|cache| !cache.is_wanted());
        let references = references.filter_map(LayerCache::reference).map(str::to_owned);
        Self { unmissed: references.collect(), ..Self::default() }
    }

    /// Takes in what BuildKit says, and tells what is new.
    pub(super) fn update(&mut self, status: StatusResponse, progress: &dyn Progress) {
        for vertex in status.vertexes {
            self.vertex(vertex, progress);
        }
        for transfer in status.statuses {
            self.transfer(transfer, progress);
        }
        for log in status.logs {
            self.log(log, progress);
        }
        for warning in status.warnings {
            progress.event(of_warning(warning));
        }
    }

    /// The step of a digest, known from now on.
    fn step(&mut self, digest: &str) -> (StepId, &mut Step, bool) {
        let known = self.by_digest.get(digest).copied();
        let index = known.unwrap_or_else(|| {
            self.by_digest.insert(digest.to_owned(), self.steps.len());
            self.steps.push(Step::default());
            self.steps.len() - 1
        });
        let id = StepId(u32::try_from(index).unwrap_or(u32::MAX));
        (id, &mut self.steps[index], known.is_none())
    }

    fn vertex(&mut self, vertex: Vertex, progress: &dyn Progress) {
        let (id, step, new) = self.step(&vertex.digest);
        if new || step.name.is_empty() {
            step.name.clone_from(&vertex.name);
            let place = place(&vertex.name).map(|(place, _)| place);
            progress.event(Event::StepKnown { step: id, name: vertex.name, place });
        }
        // A vertex may be run again, for another part of the build that needs it.
        if vertex.started.is_some() && !vertex.cached && (!step.started || step.ended) {
            let again = step.ended && vertex.completed.is_none();
            if !step.started || again {
                step.started = true;
                step.ended = false;
                progress.event(Event::StepStarted { step: id });
            }
        }
        if vertex.completed.is_none() || step.ended {
            return;
        }
        step.ended = true;
        if let (Some(cache), false) = (step.name.strip_prefix(IMPORT), vertex.error.is_empty()) {
            // The build does without.
            let cache = cache.to_owned();
            if !self.unmissed.contains(&cache) {
                progress.event(Event::unused(cache, stripped(&vertex.error)));
            }
            let took = span(vertex.started.as_ref(), vertex.completed.as_ref());
            progress.event(Event::StepFinished { step: id, took });
            return;
        }
        if !vertex.error.is_empty() {
            step.error.clone_from(&vertex.error);
            // Steps that ran beside the one that failed are cancelled, and say so.
            let cancelled = vertex.error.contains("context canceled");
            let message = nothing_there(&step.name, &vertex.error).unwrap_or(vertex.error);
            progress.event(Event::StepFailed { step: id, message, at: None });
            if self.failed.is_none() || !cancelled {
                self.failed = Some(id.0 as usize);
            }
            return;
        }
        // Nobody will ask for it.
        step.log = Log::default();
        if vertex.cached {
            progress.event(Event::StepCached { step: id });
        } else {
            let took = span(vertex.started.as_ref(), vertex.completed.as_ref());
            progress.event(Event::StepFinished { step: id, took });
        }
    }

    fn transfer(&mut self, status: VertexStatus, progress: &dyn Progress) {
        let (step, _, _) = self.step(&status.vertex);
        // The identifier says more where it goes on from the name: `transferring context:`.
        let what = if status.id.starts_with(&status.name) { status.id } else { status.name };
        let amount = Amount::new(status.current, status.total);
        let done = status.completed.is_some();
        progress.event(Event::Transfer { step, what, amount, done });
    }

    fn log(&mut self, log: VertexLog, progress: &dyn Progress) {
        let (id, step, _) = self.step(&log.vertex);
        let stream = if log.stream == 1 { Stream::Stdout } else { Stream::Stderr };
        step.log.push(stream, &log.msg);
        progress.event(Event::Log { step: id, stream, text: log.msg });
    }

    /// The error of a build that BuildKit gave up, saying `message`.
    pub(super) fn failure(&mut self, message: String) -> BuildError {
        let message = stripped(&message).to_owned();
        if message == "context canceled" || message == "Canceled" {
            return BuildError::Cancelled;
        }
        let Some(step) = self.failed.and_then(|index| self.steps.get_mut(index)) else {
            // Docker 20.10 may end a build before it has told of the step that failed.
            if let (Some(code), Some((step, _))) =
                (exit_code(&message), message.rsplit_once(": exit code: "))
            {
                let step = step.trim_start_matches("executor failed running ").to_owned();
                return BuildError::Step {
                    step,
                    at: None,
                    exit_code: Some(code),
                    message,
                    log: String::new(),
                };
            }
            let message = not_allowed(&message).unwrap_or(message);
            // What is wrong before any step ran is wrong with the Dockerfile.
            return match Error::failed("build the image", message.clone()) {
                Error::Failed { .. } => BuildError::Dockerfile { message },
                error => error.into(),
            };
        };
        let name = std::mem::take(&mut step.name);
        let said = stripped(&step.error).to_owned();
        let said = nothing_there(&name, &said).unwrap_or(said);
        let error = Error::failed(action(&name), said.clone());
        match error {
            Error::DiskFull { .. } => error.into(),
            _ if !is_of_the_dockerfile(&name) => error.into(),
            _ => BuildError::Step {
                exit_code: exit_code(&said),
                message: said,
                log: std::mem::take(&mut step.log).text(),
                step: name,
                at: None,
            },
        }
    }
}

/// Whether a step is an instruction of the Dockerfile that did its own work (`[build 2/5] RUN make`),
/// rather than something that the engine does around it (`[internal] load build context`), or the
/// pull of a base.
fn is_of_the_dockerfile(name: &str) -> bool {
    place(name).is_some_and(|(_, instruction)| !instruction.starts_with("FROM "))
}

/// Where a step stands that is an instruction, and the instruction: `[build 2/5] RUN make`,
/// `[linux/arm64 build 2/5] ...`, `[ 2/12] ...` (buildkit `frontend/dockerfile/dockerfile2llb/convert.go`: `prefixCommand`).
fn place(name: &str) -> Option<(Place, &str)> {
    let (place, instruction) = name.strip_prefix('[')?.split_once("] ")?;
    let mut words: Vec<&str> = place.split_ascii_whitespace().collect();
    let (number, total) = words.pop()?.split_once('/')?;
    // A platform has a slash, and no name of a stage has.
    let stage = words.pop().filter(|word| !word.contains('/')).map(str::to_owned);
    let counted = Counted::Layers { stage };
    let place = Place { counted, number: number.parse().ok()?, total: total.parse().ok()? };
    Some((place, instruction))
}

/// What the engine was doing in a step that is not the Dockerfile's, for an error.
fn action(step: &str) -> String {
    let internal = step.strip_prefix("[internal] ").unwrap_or(step);
    match internal.strip_prefix("load metadata for ") {
        Some(image) => format!("find the base {image}"),
        None => match step.split_once("] FROM ") {
            Some((_, image)) => format!("pull the base {image}"),
            None => format!("do `{internal}`"),
        },
    }
}

/// What BuildKit means when a step copies what is not there: it names a layer, and says that it
/// cannot be hashed (buildkit `cache/contenthash/checksum.go`).
fn nothing_there(step: &str, message: &str) -> Option<String> {
    let (_, rest) = message.split_once("failed to calculate checksum of ref ")?;
    let (_, path) = rest.strip_suffix(": not found")?.split_once(": \"")?;
    let path = path.strip_suffix('"')?;
    let context = !step.contains("from=");
    let place = if context { "the build context" } else { "where it copies from" };
    Some(format!("nothing in {place} matches `{path}`"))
}

/// What BuildKit means when a step asks for more than it was given (buildkit
/// `util/entitlements/entitlements.go`).
fn not_allowed(message: &str) -> Option<String> {
    let what = message.strip_suffix(" is not allowed")?.rsplit(' ').next()?;
    matches!(what, "network.host" | "security.insecure").then(|| {
        format!("a step asks for {what}, which is not allowed; allow it with --allow {what}")
    })
}

/// Takes off what BuildKit and gRPC put before the reason.
fn stripped(message: &str) -> &str {
    const PREFIXES: [&str; 6] = [
        "failed to solve: ",
        "failed to solve with frontend dockerfile.v0: ",
        "failed to solve with frontend gateway.v0: ",
        "failed to create LLB definition: ",
        "rpc error: code = Unknown desc = ",
        "rpc error: code = Canceled desc = ",
    ];
    let mut rest = message.trim();
    while let Some(shorter) = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = shorter;
    }
    rest
}

/// The number in `... exit code: 3`.
fn exit_code(message: &str) -> Option<i64> {
    let (_, rest) = message.rsplit_once("exit code: ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn span(from: Option<&Timestamp>, to: Option<&Timestamp>) -> Duration {
    let time =
        |stamp: &Timestamp| i128::from(stamp.seconds) * 1_000_000_000 + i128::from(stamp.nanos);
    let nanoseconds = match (from, to) {
        (Some(from), Some(to)) => time(to) - time(from),
        _ => 0,
    };
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}

/// A text without the digests of images: what is quoted is the Dockerfile that was served, and in the
/// user's there is none.
fn unpinned(text: &str) -> String {
    const PIN: &str = "@sha256:";
    const LENGTH: usize = 64;
    let mut parts = text.split(PIN);
    let mut unpinned = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_at_checked(LENGTH) {
            Some((hex, rest)) if hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                unpinned.push_str(rest);
            }
            _ => {
                unpinned.push_str(PIN);
                unpinned.push_str(part);
            }
        }
    }
    unpinned
}

fn of_warning(warning: VertexWarning) -> Event {
    let text = |bytes: &[u8]| unpinned(&String::from_utf8_lossy(bytes));
    let line = warning.ranges.first().and_then(|range| range.start).map(|start| start.line);
    Event::Warning {
        short: text(&warning.short),
        detail: warning.detail.iter().map(|line| text(line)).collect(),
        url: Some(warning.url).filter(|url| !url.is_empty()),
        line: line.and_then(|line| u32::try_from(line).ok()).filter(|line| *line > 0),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<Event>>);

    impl Progress for Heard {
        fn event(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }

    fn vertex(digest: &str, name: &str) -> Vertex {
        Vertex { digest: digest.into(), name: name.into(), ..Vertex::default() }
    }

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    fn said(updates: Vec<Vertex>) -> (Trace, Vec<Event>) {
        let (mut trace, heard) = (Trace::default(), Heard::default());
        for vertex in updates {
            let status = StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() };
            trace.update(status, &heard);
        }
        (trace, heard.0.into_inner().unwrap())
    }

    #[test]
    fn a_step_that_is_told_of_often_is_one_step() {
        let run = vertex("d", "[2/2] RUN make");
        let (_, events) = said(vec![
            run.clone(),
            Vertex { started: at(10), ..run.clone() },
            Vertex { started: at(10), ..run.clone() },
            Vertex { started: at(10), completed: at(13), ..run.clone() },
            Vertex { started: at(10), completed: at(13), ..run },
        ]);
        let step = StepId(0);
        assert_eq!(
            events,
            [
                Event::StepKnown {
                    step,
                    name: "[2/2] RUN make".into(),
                    place: Some(Place {
                        counted: Counted::Layers { stage: None },
                        number: 2,
                        total: 2
                    }),
                },
                Event::StepStarted { step },
                Event::StepFinished { step, took: Duration::from_secs(3) },
            ]
        );
    }

    #[test]
    fn the_place_of_an_instruction_is_in_its_name() {
        let of = |name| {
            place(name).map(|(place, instruction)| {
                let Counted::Layers { stage } = place.counted else { panic!("{name}") };
                (stage.unwrap_or_default(), place.number, place.total, instruction.to_owned())
            })
        };
        for (name, stage, number, total, instruction) in [
            ("[2/2] RUN x ] FROM y", "", 2, 2, "RUN x ] FROM y"),
            ("[ 2/12] RUN x", "", 2, 12, "RUN x"),
            ("[build  2/12] RUN x", "build", 2, 12, "RUN x"),
            ("[linux/arm64 2/3] RUN x", "", 2, 3, "RUN x"),
            ("[linux/arm64->amd64 stage-0 3/2] RUN x", "stage-0", 3, 2, "RUN x"),
        ] {
            let expected = (stage.to_owned(), number, total, instruction.to_owned());
            assert_eq!(of(name), Some(expected), "{name}");
        }
        for name in ["[internal] load build context", "[a b] c", "[] c", "RUN x", "[1/x] y"] {
            assert_eq!(of(name), None, "{name}");
        }
    }

    #[test]
    fn a_cached_step_is_only_that() {
        let run =
            Vertex { started: at(1), completed: at(1), cached: true, ..vertex("d", "[1/1] RUN x") };
        let (_, events) = said(vec![run]);
        assert_eq!(events[1..], [Event::StepCached { step: StepId(0) }]);
    }

    #[test]
    fn a_failing_step_is_the_one_that_failed_not_one_that_was_cancelled() {
        let end = |digest: &str, name: &str, error: &str| Vertex {
            started: at(1),
            completed: at(2),
            error: error.into(),
            ..vertex(digest, name)
        };
        let failing = "process \"/bin/sh -c false\" did not complete successfully: exit code: 7";
        let (mut trace, _) = said(vec![
            end("a", "[a 2/2] RUN sleep 9", "context canceled"),
            end("b", "[b 2/2] RUN false", failing),
            end("c", "[c 2/2] RUN sleep 8", "context canceled: context canceled"),
        ]);
        trace.log(
            VertexLog {
                vertex: "b".into(),
                msg: b"what it wrote\n".to_vec(),
                ..Default::default()
            },
            &Heard::default(),
        );
        let error = trace.failure(format!("failed to solve: {failing}"));
        assert_eq!(error.to_string(), "step `[b 2/2] RUN false` failed with exit code 7");
        let BuildError::Step { log, .. } = error else { panic!("{error:?}") };
        assert_eq!(log, "what it wrote\n");
    }

    #[test]
    fn a_warning_quotes_the_users_text() {
        let pin = "0123456789abcdef".repeat(4);
        let text = format!("Default value for ARG ${{B}}@sha256:{pin} results in x@sha256:12");
        assert_eq!(unpinned(&text), "Default value for ARG ${B} results in x@sha256:12");
    }

    #[test]
    fn a_cache_that_is_not_there_is_a_warning_and_no_reason() {
        let name = "importing cache manifest from localhost:1/none";
        let import = Vertex {
            started: at(1),
            completed: at(2),
            error: "not found".into(),
            ..vertex("d", name)
        };
        let (mut trace, events) = said(vec![import]);
        assert!(
            !events.iter().any(|event| matches!(event, Event::StepFailed { .. })),
            "{events:?}"
        );
        let warned = events.iter().find_map(|event| match event {
            Event::Warning { short, .. } => Some(short.as_str()),
            _ => None,
        });
        assert_eq!(warned, Some("the cache localhost:1/none cannot be used: not found"));
        let error = trace.failure("dockerfile parse error line 2".into());
        assert_eq!(error.to_string(), "dockerfile parse error line 2");
    }

    #[test]
    fn a_copy_of_nothing_says_what_is_missing() {
        for (step, place) in [
            ("[2/2] COPY nonexist /", "the build context"),
            ("[2/2] COPY --from=made nonexist /", "where it copies from"),
        ] {
            let error = "failed to compute cache key: failed to calculate checksum of ref \
                         5a71::o8oo: \"/nonexist\": not found";
            let copy = Vertex {
                started: at(1),
                completed: at(2),
                error: error.into(),
                ..vertex("d", step)
            };
            let error = said(vec![copy]).0.failure(error.into());
            assert!(error.is_of_the_build());
            assert_eq!(
                error.to_string(),
                format!("step `{step}` failed: nothing in {place} matches `/nonexist`")
            );
        }
    }

    #[test]
    fn a_base_that_cannot_be_had_is_no_fault_of_the_build() {
        let (mut trace, _) = said(vec![Vertex {
            started: at(1),
            completed: at(2),
            error: "pull access denied".into(),
            ..vertex("d", "[internal] load metadata for localhost:5000/base:1")
        }]);
        let error = trace.failure("failed to solve with frontend dockerfile.v0: x".into());
        assert!(!error.is_of_the_build());
        assert_eq!(
            error.to_string(),
            "the engine cannot find the base localhost:5000/base:1: pull access denied"
        );
    }

    #[test]
    fn a_step_that_nobody_told_of_has_failed_all_the_same() {
        let error = Trace::default()
            .failure("executor failed running [/bin/sh -c exit 3]: exit code: 3".into());
        assert_eq!(error.to_string(), "step `[/bin/sh -c exit 3]` failed with exit code 3");
    }

    #[test]
    fn a_dockerfile_that_is_refused_says_why() {
        let error = Trace::default().failure(
            "failed to solve with frontend dockerfile.v0: failed to create LLB definition: \
             dockerfile parse error line 2: unknown instruction: FORM"
                .into(),
        );
        assert_eq!(error.to_string(), "dockerfile parse error line 2: unknown instruction: FORM");
        assert!(error.is_of_the_build());
    }

    #[test]
    fn steps_of_the_dockerfile_are_told_from_the_engines_own() {
        for step in ["[2/5] RUN make", "[build 2/5] RUN make", "[stage-0 1/1] COPY [a, b] /"] {
            assert!(is_of_the_dockerfile(step), "{step}");
        }
        for step in [
            "[internal] load build context",
            "[context other] load .dockerignore",
            "[auth] library/base:pull token for registry",
            "[build 1/5] FROM localhost:5000/base",
            "exporting to image",
            "resolve image config for docker.io/docker/dockerfile:1",
        ] {
            assert!(!is_of_the_dockerfile(step), "{step}");
        }
    }
}
