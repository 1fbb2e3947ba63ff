//! A build line by line, for logs.

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

use super::{bytes, seconds, warning};
use crate::engine::{Event, Progress, StepId};

/// Line by line, each with the number of its step. When it is told to be quiet, it says nothing
/// until a step fails, and then everything that the step wrote.
pub(super) struct Plain<W> {
    state: Mutex<State<W>>,
    verbose: bool,
}

struct State<W> {
    out: W,
    steps: HashMap<StepId, Step>,
    /// The step whose lines were written last: a header tells when it changes.
    current: Option<StepId>,
    layers: HashMap<String, String>,
}

#[derive(Default)]
struct Step {
    name: String,
    /// What it wrote after the last newline.
    partial: Vec<u8>,
    /// What it wrote, kept for the case that it fails where nothing is shown.
    kept: Vec<u8>,
}

/// A line that is longer than this is broken, in bytes.
const LONGEST: usize = 64 << 10;
/// So much of a step's output is kept while nothing is shown.
const KEPT: usize = 256 * 1024;

impl<W: Write> Plain<W> {
    pub(super) fn new(out: W, verbose: bool) -> Self {
        let state = State { out, steps: HashMap::new(), current: None, layers: HashMap::new() };
        Self { state: Mutex::new(state), verbose }
    }
}

impl<W: Write + Send> Progress for Plain<W> {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Where nobody reads stderr, nothing is lost.
        let _ = if self.verbose { state.show(event) } else { state.keep(event) };
    }
}

impl<W: Write> State<W> {
    fn show(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::StepKnown { step, name, .. } => {
                self.steps.entry(step).or_default().name = name;
                // Another build counts its steps anew.
                self.current = self.current.filter(|current| *current != step);
            }
            // Its first line, or its end, is soon enough: many start at once.
            Event::StepStarted { .. } => {}
            Event::StepCached { step } => self.line(step, "CACHED")?,
            Event::StepFinished { step, took } => {
                self.flush(step)?;
                self.line(step, &format!("DONE {}", seconds(took)))?;
            }
            Event::StepFailed { step, message, at } => {
                self.flush(step)?;
                let at = at.map(|at| format!(" ({at})")).unwrap_or_default();
                self.line(step, &format!("ERROR {message}{at}"))?;
            }
            Event::Log { step, text, .. } => self.log(step, &text)?,
            Event::Transfer { step, what, amount, done: true } => {
                self.line(step, &format!("{what} {}", bytes(amount.current)))?;
            }
            Event::Transfer { .. } => {}
            Event::Layer { layer, status, amount: _ } => {
                // Only what becomes of a layer is worth a line, not how far it is.
                if self.layers.get(&layer) != Some(&status) {
                    writeln!(self.out, "{layer}: {status}")?;
                    self.layers.insert(layer, status);
                }
            }
            Event::Warning { short, line, .. } => {
                writeln!(self.out, "{}", warning(&short, line))?;
            }
            Event::Note { text } => writeln!(self.out, "{}", text.trim_end())?,
        }
        Ok(())
    }

    fn keep(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::StepKnown { step, name, .. } => self.steps.entry(step).or_default().name = name,
            Event::Log { step, text, .. } => {
                let kept = &mut self.steps.entry(step).or_default().kept;
                kept.extend_from_slice(&text);
                if kept.len() > 2 * KEPT {
                    kept.drain(..kept.len() - KEPT);
                }
            }
            Event::StepFailed { step, .. } => {
                let failed = self.steps.remove(&step).unwrap_or_default();
                writeln!(self.out, "{}", failed.name)?;
                self.out.write_all(&failed.kept)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Says which step the next lines are of.
    fn header(&mut self, step: StepId) -> io::Result<()> {
        if self.current == Some(step) {
            return Ok(());
        }
        self.current = Some(step);
        let name = self.steps.get(&step).map_or("", |step| step.name.as_str());
        writeln!(self.out, "\n#{} {name}", step.0)
    }

    fn line(&mut self, step: StepId, text: &str) -> io::Result<()> {
        self.header(step)?;
        writeln!(self.out, "#{} {text}", step.0)
    }

    /// Writes the whole lines of a step's output, and keeps what comes after the last newline.
    fn log(&mut self, step: StepId, text: &[u8]) -> io::Result<()> {
        let partial = &mut self.steps.entry(step).or_default().partial;
        let begun = partial.len();
        partial.extend_from_slice(text);
        // What was there before has no end of a line.
        let rest = match text.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => partial.split_off(begun + end + 1),
            None if partial.len() < LONGEST => return Ok(()),
            None => {
                partial.push(b'\n');
                Vec::new()
            }
        };
        let whole = std::mem::replace(partial, rest);
        self.header(step)?;
        for line in whole.split_inclusive(|byte| *byte == b'\n') {
            write!(self.out, "#{} ", step.0)?;
            self.out.write_all(line)?;
        }
        Ok(())
    }

    /// Writes what a step wrote without a newline at its end.
    fn flush(&mut self, step: StepId) -> io::Result<()> {
        if self.steps.get(&step).is_some_and(|step| !step.partial.is_empty()) {
            self.log(step, b"\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::Stream;

    fn shown(verbose: bool, events: Vec<Event>) -> String {
        let plain = Plain::new(Vec::new(), verbose);
        for event in events {
            plain.event(event);
        }
        String::from_utf8(plain.state.into_inner().unwrap().out).unwrap()
    }

    fn run(step: u32, name: &str, logs: &[&str], failed: bool) -> Vec<Event> {
        let id = StepId(step);
        let mut events = vec![
            Event::StepKnown { step: id, name: name.into(), place: None },
            Event::StepStarted { step: id },
        ];
        for log in logs {
            let text = log.as_bytes().to_vec();
            events.push(Event::Log { step: id, stream: Stream::Stdout, text });
        }
        events.push(if failed {
            Event::StepFailed { step: id, message: "exit code: 3".into(), at: None }
        } else {
            Event::StepFinished { step: id, took: Duration::from_millis(1_240) }
        });
        events
    }

    #[test]
    fn a_line_cut_in_two_by_the_engine_is_shown_as_one() {
        let text = shown(true, run(2, "[1/2] RUN make", &["one\ntw", "o\nthree"], false));
        assert_eq!(text, "\n#2 [1/2] RUN make\n#2 one\n#2 two\n#2 three\n#2 DONE 1.2s\n");
    }

    #[test]
    fn a_line_without_end_is_broken() {
        let piece = "x".repeat(10_000);
        let text = shown(true, run(2, "[1/2] RUN it", &[piece.as_str(); 30], false));
        assert!(text.lines().all(|line| line.len() < LONGEST + 20_000), "{}", text.len());
        assert_eq!(text.matches('x').count(), 300_000);
    }

    #[test]
    fn quiet_means_silence_until_a_step_fails_and_then_all_it_wrote() {
        let mut events = run(1, "[1/2] RUN true", &["noise\n"], false);
        assert_eq!(shown(false, events.clone()), "");
        events.extend(run(2, "[2/2] RUN false", &["why\n"], true));
        assert_eq!(shown(false, events), "[2/2] RUN false\nwhy\n");
    }

    #[test]
    fn a_layer_is_mentioned_when_its_state_changes() {
        let layer = |status: &str| Event::Layer {
            layer: "ab12".into(),
            status: status.into(),
            amount: None,
        };
        let text = shown(true, vec![layer("Pushing"), layer("Pushing"), layer("Pushed")]);
        assert_eq!(text, "ab12: Pushing\nab12: Pushed\n");
    }
}
