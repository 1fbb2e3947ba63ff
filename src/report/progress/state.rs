//! What is known of a build under way: events in, steps and layers out.
//!
//! Pure: it is told what time it is.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use super::warning;
use crate::engine::{Amount, Event, Log, StepId};

/// A build as far as it is.
pub(super) struct State {
    pub(super) since: Instant,
    pub(super) steps: Vec<Step>,
    pub(super) layers: Layers,
    /// The steps of the build under way by their numbers; another build counts anew.
    by_number: HashMap<StepId, usize>,
    /// Order of the events that ended steps.
    ended: u32,
}

/// A step and what became of it.
pub(super) struct Step {
    pub(super) name: String,
    pub(super) phase: Phase,
    /// What is being moved in it, in the order in which it became known.
    pub(super) transfers: Vec<(String, Amount)>,
    /// What it wrote; forgotten when it ends well.
    pub(super) log: Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    Running {
        since: Instant,
    },
    Cached,
    Done {
        took: Duration,
        /// How many steps ended before.
        place: u32,
    },
    Failed {
        took: Duration,
    },
    /// It ran beside one that failed.
    Cancelled,
}

impl State {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            steps: Vec::new(),
            layers: Layers::default(),
            by_number: HashMap::new(),
            ended: 0,
        }
    }

    /// Takes in an event; gives back the line that it is worth above everything else, if it is.
    pub(super) fn event(&mut self, event: Event, now: Instant) -> Option<String> {
        match event {
            Event::StepKnown { step, name, .. } => self.known(step, name),
            Event::StepStarted { step } => {
                self.step(step).phase = Phase::Running { since: now };
            }
            Event::StepCached { step } => self.end(step, |_| Phase::Cached),
            Event::StepFinished { step, took } => {
                self.end(step, |place| Phase::Done { took, place });
            }
            Event::StepFailed { step, message, .. } => {
                let step = self.step(step);
                let took = match step.phase {
                    Phase::Running { since } => now - since,
                    _ => Duration::ZERO,
                };
                // BuildKit's and gRPC's words for being told to stop.
                let cancelled =
                    ["context canceled", "Canceled"].iter().any(|word| message.contains(word));
                step.phase = if cancelled { Phase::Cancelled } else { Phase::Failed { took } };
                step.transfers.clear();
            }
            Event::Log { step, stream, text } => self.step(step).log.push(stream, &text),
            Event::Transfer { step, what, amount, done } => {
                let transfers = &mut self.step(step).transfers;
                match transfers.iter().position(|(known, _)| *known == what) {
                    Some(index) if done => drop(transfers.remove(index)),
                    Some(index) => transfers[index].1 = amount,
                    None if done => {}
                    None => transfers.push((what, amount)),
                }
            }
            Event::Layer { layer, status, amount } => self.layers.update(layer, status, amount),
            Event::Warning { short, line, .. } => {
                return Some(warning(&short, line));
            }
            Event::Note { text } => {
                return Some(text.trim_end().to_owned()).filter(|text| !text.is_empty());
            }
        }
        None
    }

    fn known(&mut self, number: StepId, name: String) {
        if let Some(index) = self.by_number.get(&number)
            && self.steps[*index].name.is_empty()
        {
            self.steps[*index].name = name;
            return;
        }
        self.by_number.insert(number, self.steps.len());
        self.steps.push(Step {
            name,
            phase: Phase::Waiting,
            transfers: Vec::new(),
            log: Log::default(),
        });
    }

    fn step(&mut self, number: StepId) -> &mut Step {
        if !self.by_number.contains_key(&number) {
            self.known(number, String::new());
        }
        let index = self.by_number[&number];
        &mut self.steps[index]
    }

    fn end(&mut self, number: StepId, phase: impl FnOnce(u32) -> Phase) {
        self.ended += 1;
        let phase = phase(self.ended);
        let step = self.step(number);
        step.phase = phase;
        step.transfers.clear();
        step.log = Log::default();
    }

    pub(super) fn count(&self, is: impl Fn(Phase) -> bool) -> usize {
        self.steps.iter().filter(|step| is(step.phase)).count()
    }

    /// The step because of which the build failed.
    pub(super) fn failed(&mut self) -> Option<&mut Step> {
        self.steps.iter_mut().find(|step| matches!(step.phase, Phase::Failed { .. }))
    }
}

/// The layers of an image that is pushed or pulled.
#[derive(Default)]
pub(super) struct Layers {
    layers: BTreeMap<String, Layer>,
    pub(super) pull: bool,
}

#[derive(Default)]
struct Layer {
    there: bool,
    amount: Option<Amount>,
}

impl Layers {
    fn update(&mut self, layer: String, status: String, amount: Option<Amount>) {
        // The words of engines (moby `distribution/push_v2.go`, `pull_v2.go`).
        let there = matches!(status.as_str(), "Pushed" | "Layer already exists" | "Already exists")
            || status.starts_with("Mounted from")
            || status.starts_with("Pull complete");
        let pull = ["Pull", "Download", "Extract", "Verifying", "Already exists"];
        let pull = pull.iter().any(|word| status.starts_with(word));
        let push = ["Push", "Preparing", "Layer already", "Mounted"];
        let push = push.iter().any(|word| status.starts_with(word));
        if (pull && !self.pull) || (push && self.pull) {
            self.layers.clear();
            self.pull = pull;
        }
        let known = self.layers.entry(layer).or_default();
        known.there = there;
        // What is unpacked was downloaded before, and counted then.
        if amount.is_some() && status != "Extracting" {
            known.amount = amount;
        }
    }

    pub(super) fn count(&self) -> usize {
        self.layers.len()
    }

    /// How many are there.
    pub(super) fn there(&self) -> usize {
        self.layers.values().filter(|layer| layer.there).count()
    }

    /// How far those are that move, taken together.
    pub(super) fn amount(&self) -> Amount {
        let (mut current, mut total) = (0, 0);
        for layer in self.layers.values() {
            let Some(amount) = layer.amount else { continue };
            let whole = amount.total.unwrap_or(amount.current);
            // Engines send the last figure a little before the end.
            current += if layer.there { whole } else { amount.current.min(whole) };
            total += whole;
        }
        Amount { current, total: Some(total) }
    }
}
