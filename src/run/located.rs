//! What an engine says of steps, with the lines of the user's Dockerfile that they stand on.
//!
//! Knows whose text the engine was served, and that its lines are the user's: pins, the mark of the
//! key and images in the place of stages leave every line that is built where it was. Must not know
//! how engines count; that is `dockerfile`'s.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::{Prepared, prepare::asked, unmatched};
use crate::{
    dockerfile::{self, Lines, Location, Place},
    engine::{BuildError, BuildRequest, Event, Progress, StepId},
    settings::{DockerfileSource, Request},
};

/// Somebody who wants to know of a build, and learns where its steps stand.
pub(super) struct Located<'a> {
    progress: &'a dyn Progress,
    prepared: &'a Prepared,
    file: Option<String>,
    known: Mutex<Known>,
}

struct Known {
    /// `None` of a text that is not read here.
    lines: Option<Lines>,
    steps: HashMap<StepId, (String, Option<Place>)>,
    /// The steps that failed, by their names.
    failed: HashMap<String, Location>,
}

impl<'a> Located<'a> {
    /// Who listens to this build.
    pub(super) fn new(
        progress: &'a dyn Progress,
        request: &Request,
        prepared: &'a Prepared,
        build: &BuildRequest,
    ) -> Self {
        let file = match &request.dockerfile {
            DockerfileSource::File(_) => Some(request.dockerfile_name()),
            DockerfileSource::Stdin => None,
        };
        let lines = lines(request, prepared, build);
        let known = Known { lines, steps: HashMap::new(), failed: HashMap::new() };
        Self { progress, prepared, file, known: Mutex::new(known) }
    }

    /// The error that the build ended with: where it failed and, as far as we know better than the
    /// engine, why.
    pub(super) fn error(&self, mut error: BuildError) -> BuildError {
        if let BuildError::Step { step, at, exit_code, message, .. } = &mut error {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let told = known.failed.get(step).cloned();
            // Docker 20.10 may end a build before it has told of the step.
            let command = || {
                let shell = step.strip_prefix("[/bin/sh -c ")?.strip_suffix(']')?;
                let line = known.lines.as_ref()?.line_of_command(shell)?;
                Some(Location { file: self.file.clone(), line })
            };
            *at = told.or_else(command).map(Box::new);
            if let (Some(at), None) = (at, exit_code)
                && let Some(explained) = unmatched::explained(self.prepared, at.line, message)
            {
                *message = explained;
            }
        }
        error
    }
}

impl Progress for Located<'_> {
    fn event(&self, mut event: Event) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut event {
            Event::StepKnown { step, name, place } => {
                if let (Some(lines), Some(place)) = (&mut known.lines, &*place) {
                    lines.heard_of(place, instruction(name));
                }
                known.steps.insert(*step, (name.clone(), place.clone()));
            }
            Event::StepFailed { step, at, .. } => {
                *at = known.locate(*step, self.file.as_ref());
            }
            _ => {}
        }
        drop(known);
        self.progress.event(event);
    }
}

impl Known {
    fn locate(&mut self, step: StepId, file: Option<&String>) -> Option<Location> {
        let (name, place) = self.steps.get(&step)?;
        let line = self.lines.as_ref()?.line(place.as_ref()?, instruction(name))?;
        let at = Location { file: file.cloned(), line };
        self.failed.insert(name.clone(), at.clone());
        Some(at)
    }
}

/// The lines of the text that the engine is served, if that is a Dockerfile as we know them.
fn lines(request: &Request, prepared: &Prepared, build: &BuildRequest) -> Option<Lines> {
    let foreign = dockerfile::frontend(&build.dockerfile, &prepared.build_args);
    if foreign.is_some_and(|frontend| !frontend.known) {
        return None;
    }
    let asked = asked(request, prepared.build_args.clone()).of_pinned();
    dockerfile::parse(&build.dockerfile).ok()?.lines(&asked, &prepared.slice).ok()
}

/// What a step does, of its name: `[build 2/5] RUN make`.
fn instruction(name: &str) -> &str {
    name.split_once("] ").map_or(name, |(_, instruction)| instruction)
}
