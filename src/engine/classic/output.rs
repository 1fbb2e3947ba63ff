//! The classic builders' text, turned into events, and their failures, turned into errors.

use std::{collections::BTreeSet, time::Instant};

use crate::{
    dockerfile::{self, Counted},
    engine::{
        build::BuildError,
        error::Error,
        http::{ErrorDetail, ProgressDetail},
        log::Log,
        progress::{Amount, Event, Progress, StepId, Stream},
    },
};

/// What is known of a build under way: which step runs, and what it wrote.
///
/// What steps write comes among what the builder says, and may look like it. So a step begins only
/// where the next number is due, and every line that the builder does not write just so is a
/// step's.
#[derive(Default)]
pub(in crate::engine) struct Output {
    known: u32,
    step: Option<Step>,
    /// Where in the Dockerfile it is.
    place: Option<Place>,
    /// The numbers of the stages that have begun.
    begun: BTreeSet<u32>,
    /// Where it was when a stage began that it had to wait for.
    waiting: Vec<Place>,
    /// What the builder says at the end of a build that worked, if it is the end.
    held: Vec<String>,
}

/// The number of a step: Docker counts through all stages, podman anew in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Whether it counts through all stages.
    through: bool,
    /// The number of the stage, where there are several.
    stage: Option<(u32, u32)>,
    number: u32,
    total: u32,
}

impl Place {
    /// Whether it is the one that comes after another.
    fn follows(self, before: Option<Self>) -> bool {
        let Some(before) = before else { return self.number == 1 };
        // Triggers of a base become steps of the stage that begins with it.
        let same = self.total == before.total || self.number == 2;
        let next = self.number == before.number + 1 && self.stage == before.stage && same;
        let (stages, stages_before) = (self.stage.unzip(), before.stage.unzip());
        let new_stage =
            self.number == 1 && stages.0 > stages_before.0 && stages.1 == stages_before.1;
        next || new_stage
    }

    fn in_the_dockerfile(self) -> dockerfile::Place {
        let Self { through, stage, number, total } = self;
        let counted = match through {
            true => Counted::OfFile,
            false => Counted::OfStage(stage.map(|(stage, _)| stage)),
        };
        dockerfile::Place { counted, number, total }
    }
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
        if let Some((place, name)) = self.step_in(first) {
            self.release(progress);
            self.finish(progress);
            self.go_to(place);
            let id = StepId(self.known);
            self.known += 1;
            let place = Some(place.in_the_dockerfile());
            progress.event(Event::StepKnown { step: id, name: name.clone(), place });
            progress.event(Event::StepStarted { step: id });
            let (since, log) = (Instant::now(), Log::default());
            self.step = Some(Step { id, name, since, cached: false, silent: true, log });
        } else if let Some(step) = &mut self.step {
            if is_about_the_cache(first) {
                step.cached = true;
            } else if self.held.first().is_some_and(|end| goes_on_at_the_end(end, first)) {
                self.held.push(first.to_owned());
            } else if is_the_end(first) {
                self.release(progress);
                self.held.push(first.to_owned());
            } else if !is_about_the_builder(first) {
                self.more(text, progress);
                return;
            }
        } else {
            progress.event(Event::Note { text: first.to_owned() });
        }
        if !rest.is_empty() {
            self.text(rest, progress);
        }
    }

    /// Takes in what certainly is no line of the builder's: the rest of one that has begun before.
    pub(in crate::engine) fn more(&mut self, text: &str, progress: &dyn Progress) {
        self.release(progress);
        match &mut self.step {
            Some(step) => step.write(text, progress),
            None => progress.event(Event::Note { text: text.to_owned() }),
        }
    }

    /// What looked like the end was something that a step wrote.
    fn release(&mut self, progress: &dyn Progress) {
        let held = std::mem::take(&mut self.held);
        for line in held.iter().filter(|line| !is_about_the_builder(line)) {
            if let Some(step) = &mut self.step {
                step.write(line, progress);
            }
        }
    }

    /// The build begins anew.
    pub(in crate::engine) fn begin_again(&mut self, progress: &dyn Progress) {
        self.release(progress);
        self.finish(progress);
        (self.place, self.begun) = (None, BTreeSet::new());
        self.waiting.clear();
    }

    /// Whether a step of this place may come now.
    ///
    /// A stage that others name by its number, buildah begins only where they need it: then the one
    /// goes on that waited.
    fn may_come(&self, place: Place) -> bool {
        let Some(before) = self.place else { return place.follows(None) };
        let waits = self.step.as_ref().is_some_and(|step| step.name.contains("from="));
        let (stage, stages) = place.stage.unzip();
        let is_needed = place.number == 1
            && stages == before.stage.unzip().1
            && stage.is_some_and(|stage| !self.begun.contains(&stage));
        place.follows(Some(before)) || waits && is_needed || self.goes_on(place)
    }

    fn goes_on(&self, place: Place) -> bool {
        self.waiting.last().is_some_and(|waiting| place.follows(Some(*waiting)))
    }

    fn go_to(&mut self, place: Place) {
        if let Some(before) = self.place.replace(place)
            && !place.follows(Some(before))
        {
            if self.goes_on(place) {
                self.waiting.pop();
            } else {
                self.waiting.push(before);
            }
        }
        self.begun.extend(place.stage.map(|(stage, _)| stage));
    }

    /// The step in `Step 2/5 : RUN make`, or in podman's `STEP 2/5: RUN make`, which counts anew in
    /// every stage, as `[2/5] RUN make`.
    fn step_in(&self, line: &str) -> Option<(Place, String)> {
        let numbers = |text: &str| {
            let (current, total) = text.trim().split_once('/')?;
            Some((current.parse::<u32>().ok()?, total.parse::<u32>().ok()?))
        };
        let through = line.strip_prefix("Step ");
        let (stage, rest) = match through {
            Some(rest) => (None, rest),
            None => {
                let stage = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
                let (stage, rest) = stage.map_or((None, line), |(n, rest)| (numbers(n), rest));
                (stage, rest.strip_prefix("STEP ")?)
            }
        };
        let (number, instruction) = rest.split_once(':')?;
        let (number, total) = numbers(number)?;
        let place = Place { through: through.is_some(), stage, number, total };
        // What only looks like one is something that a step wrote.
        let name = || format!("[{number}/{total}] {}", instruction.trim());
        self.may_come(place).then(|| (place, name()))
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
        self.release(progress);
        let Some(step) = self.step.take() else {
            return match Error::failed("build the image", message) {
                Error::Failed { message, .. } => BuildError::Dockerfile { message },
                error => error.into(),
            };
        };
        let (id, said) = (step.id, message.clone());
        progress.event(Event::StepFailed { step: id, message: said, at: None });
        let exit_code = code.filter(|code| *code > 0).or_else(|| exit_code(&message));
        match step.name.split_once(' ').map(|(_, instruction)| instruction) {
            // What ends with a code is a trigger of the base: Docker gives those no step.
            Some(instruction)
                if exit_code.is_none() && instruction.to_ascii_uppercase().starts_with("FROM ") =>
            {
                let base = instruction.split_whitespace().nth(1).unwrap_or_default();
                Error::failed(format!("pull the base {base}"), message).into()
            }
            _ => match Error::failed(format!("run `{}`", step.name), message) {
                Error::Failed { message, .. } => BuildError::Step {
                    exit_code,
                    message,
                    log: step.log.text(),
                    step: step.name,
                    at: None,
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
    let line = line.trim_end();
    line == " ---> Using cache" || line.strip_prefix("--> Using cache ").is_some_and(is_id)
}

/// Lines with which the builder speaks of itself: containers and images in between.
fn is_about_the_builder(line: &str) -> bool {
    let starts = [
        "---> Running in ",
        "---> Removed intermediate container ",
        "---> ",
        "--> ",
        "Removing intermediate container ",
    ];
    if line.starts_with(" ---> [Warning] ") {
        return true;
    }
    let line = line.trim();
    starts.iter().find_map(|start| line.strip_prefix(start)).is_some_and(is_id)
}

/// The line with which what the builder says at the end begins.
fn is_the_end(line: &str) -> bool {
    let line = line.trim_end();
    line == "COMMIT" || line.starts_with("COMMIT ") || is_success(line)
}

/// Whether a line goes on with what begins with `end`. podman's interface adds Docker's words to
/// buildah's.
fn goes_on_at_the_end(end: &str, line: &str) -> bool {
    let line = line.trim_end();
    line.starts_with("Successfully tagged ")
        || is_id(line)
        || is_about_the_builder(line)
        || is_success(line) && !is_success(end.trim_end())
}

fn is_success(line: &str) -> bool {
    line.strip_prefix("Successfully built ").is_some_and(is_id)
}

/// The identifier of an image or a container, or the beginning of one.
fn is_id(text: &str) -> bool {
    matches!(text.len(), 11 | 12 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
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
        let place = Some(dockerfile::Place { counted: Counted::OfFile, number: 2, total: 3 });
        let name = "[2/3] RUN alpha".into();
        assert!(events.contains(&Event::StepKnown { step: StepId(1), name, place }));
    }

    #[test]
    fn podman_is_understood_too() {
        let (mut output, heard) = (Output::default(), Heard::default());
        let mut step = |line: &str| {
            let step = output.step_in(line);
            let step = step.map(|(place, name)| {
                assert!(matches!(place.in_the_dockerfile().counted, Counted::OfStage(Some(_))));
                name
            });
            output.text(line, &heard);
            step.unwrap_or_default()
        };
        assert_eq!(step("[1/3] STEP 1/2: FROM x\n"), "[1/2] FROM x");
        assert_eq!(step("[1/3] STEP 2/2: RUN x:y\n"), "[2/2] RUN x:y");
        // One that nothing needs is left out.
        assert_eq!(step("[3/3] STEP 1/2: FROM y\n"), "[1/2] FROM y");
        for written in ["STEP 2/2: x\n", "[3/3] STEP 3/3: x\n", "[2/3] STEP 1/2: x\n", "Step x\n"] {
            assert_eq!(step(written), "", "{written}");
        }
        assert_eq!(step("[3/3] STEP 2/3: RUN of a trigger\n"), "[2/3] RUN of a trigger");
        assert_eq!(exit_code("while running runtime: exit status 42"), Some(42));
    }

    #[test]
    fn a_stage_that_a_step_waits_for_comes_between() {
        let (mut output, heard) = (Output::default(), Heard::default());
        for line in [
            "[1/3] STEP 1/1: FROM x\n",
            "[3/3] STEP 1/3: FROM x\n",
            "[3/3] STEP 2/3: COPY --from=1 a b\n",
            "[2/3] STEP 1/2: FROM x\n",
            "[2/3] STEP 2/2: RUN y\n",
            "[2/3] STEP 1/2: I wrote this\n",
            "[3/3] STEP 3/3: RUN z\n",
            "[1/3] STEP 1/1: and this\n",
        ] {
            output.text(line, &heard);
        }
        let failure = ErrorDetail { code: None, message: "exit status 3".into() };
        let BuildError::Step { step, log, .. } = output.failure(failure, &heard) else { panic!() };
        assert_eq!((step.as_str(), log.as_str()), ("[3/3] RUN z", "[1/3] STEP 1/1: and this\n"));
        let known = heard.0.into_inner().unwrap();
        let known = known.iter().filter(|event| matches!(event, Event::StepKnown { .. }));
        assert_eq!(known.count(), 6);
    }

    #[test]
    fn what_a_step_writes_is_there_even_if_the_builder_might_say_it() {
        let id = "0123456789abcdef".repeat(4);
        let written = format!("Successfully installed x\nCOMMIT\n{id}\nSTEP 9/9: x\nCOMMIT it\n");
        let said = format!(
            "--> 0123456789a\nCOMMIT name\n--> 0123456789a\nSuccessfully tagged n\n{id}\nSuccessfully built 0123456789a\n"
        );
        let (mut output, heard) = (Output::default(), Heard::default());
        for line in ["STEP 1/2: FROM x\n", "STEP 2/2: RUN y\n"]
            .into_iter()
            .chain(written.split_inclusive('\n'))
            .chain(said.split_inclusive('\n'))
        {
            output.text(line, &heard);
        }
        output.finish(&heard);
        let events = heard.0.into_inner().unwrap();
        let logs = events.iter().filter_map(|event| match event {
            Event::Log { step: StepId(1), text, .. } => Some(text.as_slice()),
            _ => None,
        });
        assert_eq!(String::from_utf8(logs.collect::<Vec<_>>().concat()).unwrap(), written);
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

    #[test]
    fn a_trigger_that_fails_is_a_fault_of_the_build() {
        let (mut output, heard) = (Output::default(), Heard::default());
        output.text("Step 1/1 : FROM base\n", &heard);
        let message = "The command '/bin/sh -c false' returned a non-zero code: 1".into();
        let error = output.failure(ErrorDetail { code: Some(1), message }, &heard);
        assert_eq!(error.to_string(), "step `[1/1] FROM base` failed with exit code 1");
    }
}
