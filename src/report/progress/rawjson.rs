//! A build for programs: JSON lines in the form of `docker buildx build --progress rawjson`, which
//! is BuildKit's `SolveStatus` (buildkit `client/graph.go`).
//!
//! Every engine speaks it here, BuildKit or not. So a step's digest is only its name among the
//! steps, not that of what it does, and edges between steps are not told.

use std::{
    collections::HashMap,
    io::Write,
    sync::{Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::json;

use crate::{
    dockerfile::Location,
    engine::{Event, Progress, StepId, Stream},
    registry::Digest,
};

/// Writes a line for each event.
pub(super) struct RawJson<W>(Mutex<State<W>>);

struct State<W> {
    out: W,
    steps: HashMap<StepId, Vertex>,
    /// So many builds told of themselves before.
    known: usize,
}

#[derive(Clone, Serialize)]
struct Vertex {
    digest: Digest,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cached: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
    #[serde(flatten)]
    place: Option<Source>,
}

/// Where a step stands that failed. BuildKit says this of warnings only; the form is theirs (buildkit
/// `client/graph.go`: `VertexWarning`).
#[derive(Clone, Serialize)]
struct Source {
    #[serde(rename = "sourceInfo", skip_serializing_if = "Option::is_none")]
    info: Option<serde_json::Value>,
    range: serde_json::Value,
}

impl From<Location> for Source {
    fn from(Location { file, line }: Location) -> Self {
        Self { info: file.map(|file| json!({ "filename": file })), range: range(line) }
    }
}

fn range(line: impl Serialize) -> serde_json::Value {
    let place = json!({ "line": line });
    json!([{ "start": place, "end": place }])
}

/// The step that pushes and pulls are told of as; engines give them none.
const LAYERS: &str = "transfer layers";

impl<W> RawJson<W> {
    pub(super) fn new(out: W) -> Self {
        Self(Mutex::new(State::new(out)))
    }
}

/// The line of an event that belongs to no step.
pub(super) fn alone(event: Event) -> String {
    State::new(()).line(event, Timestamp::now()).to_string()
}

impl<W: Write + Send> Progress for RawJson<W> {
    fn event(&self, event: Event) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = state.line(event, Timestamp::now());
        // Where nobody reads stderr, nothing is lost.
        let _ = writeln!(state.out, "{line}");
    }
}

impl<W> State<W> {
    fn new(out: W) -> Self {
        Self { out, steps: HashMap::new(), known: 0 }
    }

    fn line(&mut self, event: Event, now: Timestamp) -> serde_json::Value {
        let time = now.to_string();
        match event {
            Event::StepKnown { step, name, .. } => {
                self.known += 1;
                let digest = Digest::of(format!("{} {name}", self.known).as_bytes());
                self.steps.insert(step, Vertex::new(digest, name));
                self.vertex(step, |_| {})
            }
            Event::StepStarted { step } => self.vertex(step, |vertex| {
                vertex.started = Some(time);
                vertex.completed = None;
            }),
            Event::StepCached { step } => self.vertex(step, |vertex| {
                vertex.started.get_or_insert_with(|| time.clone());
                vertex.completed = Some(time);
                vertex.cached = true;
            }),
            Event::StepFinished { step, took } => self.vertex(step, |vertex| {
                // The engine's clock measured it.
                let took = SignedDuration::try_from(took).unwrap_or_default();
                vertex.started = now.checked_sub(took).ok().map(|start| start.to_string());
                vertex.completed = Some(time);
            }),
            Event::StepFailed { step, message, at } => self.vertex(step, |vertex| {
                vertex.completed = Some(time);
                vertex.error = message;
                vertex.place = at.map(Source::from);
            }),
            Event::Log { step, stream, text } => {
                let stream = if stream == Stream::Stdout { 1 } else { 2 };
                json!({ "logs": [{
                    "vertex": self.digest(step),
                    "stream": stream,
                    "data": STANDARD.encode(text),
                    "timestamp": time,
                }] })
            }
            Event::Transfer { step, what, amount, done } => {
                let mut status = json!({
                    "id": what,
                    "vertex": self.digest(step),
                    "total": amount.total.unwrap_or(0),
                    "current": amount.current,
                    "timestamp": time,
                });
                if done {
                    status["completed"] = time.into();
                }
                json!({ "statuses": [status] })
            }
            Event::Layer { layer, status, amount } => json!({ "statuses": [{
                "id": format!("{status} {layer}"),
                "vertex": Digest::of(LAYERS.as_bytes()),
                "name": LAYERS,
                "total": amount.and_then(|amount| amount.total).unwrap_or(0),
                "current": amount.map_or(0, |amount| amount.current),
                "timestamp": time,
            }] }),
            Event::Warning { short, detail, url, line } => {
                let detail: Vec<_> = detail.iter().map(|line| STANDARD.encode(line)).collect();
                let mut warning = json!({
                    "level": 1,
                    "short": STANDARD.encode(short),
                    "detail": detail,
                    "url": url.unwrap_or_default(),
                });
                if let Some(line) = line {
                    warning["range"] = range(line);
                }
                json!({ "warnings": [warning] })
            }
            Event::Note { text } => {
                json!({ "logs": [{ "data": STANDARD.encode(text), "timestamp": time }] })
            }
        }
    }

    fn vertex(&mut self, step: StepId, change: impl FnOnce(&mut Vertex)) -> serde_json::Value {
        let vertex = self.step(step);
        change(vertex);
        json!({ "vertexes": [vertex] })
    }

    fn digest(&mut self, step: StepId) -> Digest {
        self.step(step).digest.clone()
    }

    fn step(&mut self, step: StepId) -> &mut Vertex {
        let unnamed = || Vertex::new(Digest::of(step.0.to_string().as_bytes()), String::new());
        self.steps.entry(step).or_insert_with(unnamed)
    }
}

impl Vertex {
    fn new(digest: Digest, name: String) -> Self {
        let (started, completed, place) = (None, None, None);
        Self { digest, name, started, completed, cached: false, error: String::new(), place }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(events: Vec<Event>) -> Vec<serde_json::Value> {
        let raw = RawJson::new(Vec::new());
        for event in events {
            raw.event(event);
        }
        let text = raw.0.into_inner().unwrap().out;
        text.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    #[test]
    fn a_step_is_a_vertex_that_is_told_of_again_and_again() {
        let step = StepId(0);
        let at = Location { file: Some("docker/Dockerfile".into()), line: 7 };
        let said = lines(vec![
            Event::StepKnown { step, name: "[1/1] RUN make".into(), place: None },
            Event::StepStarted { step },
            Event::Log { step, stream: Stream::Stderr, text: b"hm\xff\n".to_vec() },
            Event::StepFailed { step, message: "exit code: 1".into(), at: Some(at) },
        ]);
        let vertex = |index: usize| said[index]["vertexes"][0].clone();
        assert_eq!(vertex(0)["name"], "[1/1] RUN make");
        assert!(vertex(0).get("started").is_none());
        assert!(vertex(1)["started"].as_str().unwrap().ends_with('Z'));
        assert_eq!(said[2]["logs"][0]["data"], "aG3/Cg==");
        assert_eq!(said[2]["logs"][0]["stream"], 2);
        assert_eq!(said[2]["logs"][0]["vertex"], vertex(0)["digest"]);
        assert_eq!(vertex(3)["error"], "exit code: 1");
        assert_eq!(vertex(3)["started"], vertex(1)["started"]);
        assert!(vertex(3)["completed"].is_string());
        assert_eq!(vertex(3)["sourceInfo"], json!({ "filename": "docker/Dockerfile" }));
        assert_eq!(vertex(3)["range"][0]["start"]["line"], 7);
        assert!(vertex(2).get("range").is_none());
    }

    #[test]
    fn steps_of_another_build_are_others() {
        let name = || "[1/1] RUN make".into();
        let known = || Event::StepKnown { step: StepId(0), name: name(), place: None };
        let said = lines(vec![known(), known()]);
        let digest = |index: usize| &said[index]["vertexes"][0]["digest"];
        assert_ne!(digest(0), digest(1));
    }
}
