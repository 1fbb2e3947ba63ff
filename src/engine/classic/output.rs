//! The classic builders' text, turned into events, and their failures, turned into errors.

use std::time::Instant;

use crate::engine::{
    build::BuildError,
    error::Error,
    http::{ErrorDetail, ProgressDetail},
    log::Log,
    progress::{Amount, Event, Progress, StepId, Stream},
};

/// What is known of a build under way: which step runs, and what it wrote.
#[derive(Default)]
pub(in crate::engine) struct Output {
    known: u32,
    step: Option<Step>,
}

struct Step {
    id: StepId,
    name: String,
    since: Instant,
    cached: bool,
    /// Whether it has written nothing yet.
    silent: bool,
    log: Log,
}

impl Output {
    /// Takes in a message. What the builder says of itself begins one; all else a step wrote.
    pub(in crate::engine) fn text(&mut self, text: &str, progress: &dyn Progress) {
        let (first, rest) = text.split_at(text.find('\n').map_or(text.len(), |end| end + 1));
        if let Some(name) = self.step_in(first) {
            self.finish(progress);
            let id = StepId(self.known);
            self.known += 1;
            progress.event(Event::StepKnown { step: id, name: name.clone() });
            progress.event(Event::StepStarted { step: id });
            let (since, log) = (Instant::now(), Log::default());
            self.step = Some(Step { id, name, since, cached: false, silent: true, log });
        } else if let Some(step) = &mut self.step {
            if is_about_the_cache(first) {
                step.cached = true;
            } else if !is_about_the_builder(first) {
                step.write(text, progress);
                return;
            }
        } else {
            progress.event(Event::Note { text: first.to_owned() });
        }
        if !rest.is_empty() {
            self.text(rest, progress);
        }
    }

    /// The step in `Step 2/5 : RUN make`, or in podman's `STEP 2/5: RUN make`, which counts anew in
    /// every stage, as `[2/5] RUN make`.
    fn step_in(&self, line: &str) -> Option<String> {
        let (docker, rest) = match line.strip_prefix("Step ") {
            Some(rest) => (true, rest),
            None => {
                let stage = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
                (false, stage.map_or(line, |(_, rest)| rest).strip_prefix("STEP ")?)
            }
        };
        let (number, instruction) = rest.split_once(':')?;
        let (current, total) = number.trim().split_once('/')?;
        let (current, _) = (current.parse::<u32>().ok()?, total.parse::<u32>().ok()?);
        // What only looks like one is something that a step wrote.
        let next = !docker || current == self.known + 1;
        next.then(|| format!("[{current}/{total}] {}", instruction.trim()))
    }

    /// Takes in the progress of a pull.
    pub(super) fn status(
        &self,
        layer: Option<String>,
        status: String,
        amount: Option<&ProgressDetail>,
        progress: &dyn Progress,
    ) {
        let amount = amount
            .filter(|amount| amount.current > 0)
            .map(|amount| Amount::new(amount.current, amount.total));
        progress.event(match layer {
            Some(layer) => Event::Layer { layer, status, amount },
            None => Event::Note { text: status },
        });
    }

    /// The build is over, or the next step begins.
    pub(in crate::engine) fn finish(&mut self, progress: &dyn Progress) {
        match self.step.take() {
            Some(step) if step.cached => progress.event(Event::StepCached { step: step.id }),
            Some(step) => {
                let took = step.since.elapsed();
                progress.event(Event::StepFinished { step: step.id, took });
            }
            None => {}
        }
    }

    /// The error of a build that failed, saying so.
    pub(in crate::engine) fn failure(
        &mut self,
        failure: ErrorDetail,
        progress: &dyn Progress,
    ) -> BuildError {
        let ErrorDetail { code, message } = failure;
        let Some(step) = self.step.take() else {
            return match Error::failed("build the image", message) {
                Error::Failed { message, .. } => BuildError::Dockerfile { message },
                error => error.into(),
            };
        };
        progress.event(Event::StepFailed { step: step.id, message: message.clone() });
        match step.name.split_once(' ').map(|(_, instruction)| instruction) {
            Some(instruction) if instruction.to_ascii_uppercase().starts_with("FROM ") => {
                let base = instruction.split_whitespace().nth(1).unwrap_or_default();
                Error::failed(format!("pull the base {base}"), message).into()
            }
            _ => match Error::failed(format!("run `{}`", step.name), message) {
                Error::Failed { message, .. } => BuildError::Step {
                    exit_code: code.filter(|code| *code > 0).or_else(|| exit_code(&message)),
                    message,
                    log: step.log.text(),
                    step: step.name,
                },
                error => error.into(),
            },
        }
    }
}

impl Step {
    /// Takes in what the step wrote. Docker paints red what went to standard error (moby
    /// `pkg/streamformatter/streamformatter.go`).
    fn write(&mut self, text: &str, progress: &dyn Progress) {
        // The end of the line that named the step comes alone.
        if std::mem::take(&mut self.silent) && text == "\n" {
            return;
        }
        let red = text.strip_prefix("\u{1b}[91m").and_then(|text| text.strip_suffix("\u{1b}[0m"));
        let (stream, text) = match red {
            Some(text) => (Stream::Stderr, text.as_bytes()),
            None => (Stream::Stdout, text.as_bytes()),
        };
        self.log.push(stream, text);
        progress.event(Event::Log { step: self.id, stream, text: text.to_vec() });
    }
}

fn is_about_the_cache(line: &str) -> bool {
    line.starts_with(" ---> Using cache") || line.starts_with("--> Using cache ")
}

/// Lines with which the builder speaks of itself: ids of containers and of images in between.
fn is_about_the_builder(line: &str) -> bool {
    let line = line.trim();
    let id = line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    let starts = ["--->", "-->", "Removing intermediate container ", "Successfully ", "COMMIT"];
    id || starts.iter().any(|start| line.starts_with(start))
}

/// The number in Docker's `returned a non-zero code: 3` or podman's `exit status 3`.
fn exit_code(message: &str) -> Option<i64> {
    let (_, rest) = message
        .rsplit_once("returned a non-zero code: ")
        .or_else(|| message.rsplit_once("exit status "))?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
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

    #[test]
    fn steps_and_what_they_write_are_told_apart() {
        let (mut output, heard) = (Output::default(), Heard::default());
        for text in [
            "Step 1/3 : FROM base",
            "\n",
            " ---> 0123456789ab\n",
            "Step 2/3 : RUN alpha",
            "\n",
            " ---> Using cache\n",
            " ---> 0123456789ab\n",
            "Step 3/3 : RUN beta",
            "\n",
            " ---> Running in 0123456789ab\n",
            "writ",
            "ten\nStep by step\n",
            "Step 7/9 : I wrote this\n",
            "\u{1b}[91min red\n\u{1b}[0m",
            "no end",
            "Removing intermediate container 0123456789ab\n",
        ] {
            output.text(text, &heard);
        }
        let failure = ErrorDetail { code: Some(3), message: "a non-zero code: 3".into() };
        let error = output.failure(failure, &heard);
        assert_eq!(error.to_string(), "step `[3/3] RUN beta` failed with exit code 3");
        let BuildError::Step { log, .. } = error else { panic!("{error:?}") };
        assert_eq!(log, "written\nStep by step\nStep 7/9 : I wrote this\nin red\nno end");
        let events = heard.0.into_inner().unwrap();
        assert!(events.contains(&Event::StepCached { step: StepId(1) }));
        assert!(
            events.contains(&Event::StepKnown { step: StepId(1), name: "[2/3] RUN alpha".into() })
        );
    }

    #[test]
    fn podman_is_understood_too() {
        let output = Output::default();
        assert_eq!(output.step_in("STEP 2/3: RUN x:y\n").unwrap(), "[2/3] RUN x:y");
        assert_eq!(output.step_in("[1/2] STEP 2/3: RUN x\n").unwrap(), "[2/3] RUN x");
        assert_eq!(output.step_in("Step by step: all/of it\n"), None);
        assert_eq!(exit_code("while running runtime: exit status 42"), Some(42));
    }

    #[test]
    fn a_base_that_cannot_be_pulled_is_no_fault_of_the_build() {
        let (mut output, heard) = (Output::default(), Heard::default());
        output.text("Step 1/1 : FROM localhost:5000/base\n", &heard);
        let failure = ErrorDetail { code: None, message: "no basic auth credentials".into() };
        let error = output.failure(failure, &heard);
        assert!(!error.is_of_the_build());
        assert!(error.to_string().contains("localhost:5000/base"), "{error}");
    }
}
