//! Which line an engine's step stands on.
//!
//! Knows how engines count the instructions of a Dockerfile, and what they show of one. Must not know
//! how they say it, or what became of the step. A line is right or it is not given: a number leads to
//! an instruction only where the total is that of this text and the instruction says what is shown.
//!
//! | engine | counts | rule |
//! |---|---|---|
//! | BuildKit | what makes a layer in a stage | `frontend/dockerfile/dockerfile2llb/convert.go`: `prefixCommand` |
//! | the classic builder | every instruction up to the target | moby `builder/dockerfile/builder.go` |
//! | buildah | every instruction of a stage | containers/buildah `imagebuildah/stage_executor.go` |

mod shown;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use self::shown::{Shown, squeezed};
use super::{
    Dockerfile, Error, Request, Slice,
    lex::{self, Statement},
    paths,
    stages::{Graph, Source},
};

/// Where an engine says that a step stands: the number of so many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What is counted.
    pub counted: Counted,
    /// The number of the step, from 1.
    pub number: u32,
    /// How many there are. Some engines leave out what the base adds.
    pub total: u32,
}

/// What an engine counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counted {
    /// The instructions of a stage that make a layer. The stage has its name here, or `stage-N`;
    /// one that is alone has none.
    Layers {
        /// The stage.
        stage: Option<String>,
    },
    /// All instructions of a stage. The stage has its number, from 1; one that is alone has none.
    OfStage(Option<u32>),
    /// All instructions of the file, as far as the target.
    OfFile,
}

/// A line of a Dockerfile, as terminals and editors can go to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The path as the user has it; a text from stdin has none.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{file}:{}", self.line),
            None => write!(f, "line {}", self.line),
        }
    }
}

/// The lines of a Dockerfile, to be found by what engines say of their steps.
#[derive(Clone, Debug)]
pub struct Lines {
    /// How many `ARG`s stand before the first stage.
    globals: usize,
    stages: Vec<Stage>,
    target: usize,
}

#[derive(Clone, Debug)]
struct Stage {
    name: Option<String>,
    /// Its `FROM`, the triggers of its base, then what stands below it.
    steps: Vec<Step>,
    /// What of its steps is not in the text; `None` if that is not known.
    triggers: Option<usize>,
    /// The total that BuildKit has of it, but for triggers.
    layers: usize,
}

#[derive(Clone, Debug)]
struct Step {
    line: usize,
    trigger: bool,
    text: Shown,
    /// The text that a shell gets, if it is a `RUN`.
    command: Option<String>,
    layer: Layer,
}

/// Whether BuildKit gives an instruction a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Never,
    Always,
    /// It may make no layer: a base without files, a directory that turns out to be `/`. Then it
    /// counts in the total all the same.
    Maybe,
}

impl Dockerfile {
    /// The lines of this text, in a build of `request`. `slice` is what the target of the same stages
    /// depends on: it knows the triggers of bases.
    ///
    /// # Errors
    /// Those of [`Dockerfile::slice`].
    pub fn lines(&self, request: &Request, slice: &Slice) -> Result<Lines, Error> {
        let read = || {
            let graph = Graph::new(self, request)?;
            let triggers: BTreeMap<usize, Option<&[String]>> =
                slice.stages.iter().map(|stage| (stage.index, stage.triggers.as_deref())).collect();
            let mut lines = Lines { globals: 0, stages: Vec::new(), target: graph.target };
            for statement in lex::lex(&self.text)?.statements {
                let step = Step::new(&statement);
                if !statement.name.eq_ignore_ascii_case("FROM") {
                    match lines.stages.last_mut() {
                        Some(stage) => stage.push(step),
                        None => lines.globals += 1,
                    }
                    continue;
                }
                let index = lines.stages.len();
                let node = &graph.nodes[index];
                let triggers = triggers.get(&index).copied().flatten();
                lines.stages.push(Stage::new(
                    graph.stage(index).from.name.clone(),
                    // A context in the place of an image is no step of BuildKit's.
                    match &node.source {
                        Source::Image(..) => Step { layer: Layer::Maybe, ..step },
                        _ => step,
                    },
                    matches!(node.source, Source::Image(..) | Source::Context(..)),
                    triggers.filter(|_| !node.replaced),
                ));
            }
            Ok(lines)
        };
        read().map_err(|fault| Error::locate(&self.text, fault))
    }
}

impl Stage {
    fn new(name: Option<String>, from: Step, counts: bool, triggers: Option<&[String]>) -> Self {
        let line = from.line;
        let mut stage = Self { name, steps: vec![from], triggers: None, layers: counts.into() };
        if let Some(triggers) = triggers {
            // What cannot be read makes it unknown what stands where.
            let read = triggers.iter().map(|text| lex::lex_trigger(text));
            let steps: Result<Vec<_>, _> = read
                .map(|read| read.map(|read| Step { line, trigger: true, ..Step::new(&read) }))
                .collect();
            if let Ok(steps) = steps {
                stage.triggers = Some(steps.len());
                stage.steps.extend(steps);
            }
        }
        stage
    }

    fn push(&mut self, step: Step) {
        self.layers += usize::from(step.layer != Layer::Never);
        self.steps.push(step);
    }

    /// The steps that may have a number of BuildKit's.
    fn by_layer(&self, number: usize) -> impl Iterator<Item = &Step> {
        let (mut least, mut most) = (0, 0);
        self.steps.iter().filter(move |step| {
            if step.layer == Layer::Never {
                return false;
            }
            let may_have_it = (least + 1..=most + 1).contains(&number);
            most += 1;
            least += usize::from(step.layer == Layer::Always);
            may_have_it
        })
    }

    /// The steps that may have a number of buildah's, which counts triggers once it has seen the base.
    /// Newer versions add a `LABEL` for those of the command line, at the end.
    fn by_number(&self, index: usize, total: usize) -> impl Iterator<Item = &Step> {
        let triggers = self.triggers.unwrap_or_default();
        let own = self.steps.len() - triggers;
        let fits = move |count: usize| total == count || total == count + 1;
        let with = self.steps.get(index).filter(|_| fits(own + triggers));
        let without = self.own().nth(index).filter(|_| fits(own));
        with.into_iter().chain(without)
    }

    /// The steps that stand in the text.
    fn own(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| !step.trigger)
    }
}

impl Lines {
    /// Takes in that an engine tells of a step, which may settle what was open.
    pub fn heard_of(&mut self, place: &Place, instruction: &str) {
        let Counted::Layers { stage } = &place.counted else { return };
        if place.number != 1 || !instruction.starts_with("FROM ") {
            return;
        }
        for index in self.named(stage.as_deref()) {
            let from = self.stages[index].steps.first_mut();
            if let Some(from) = from.filter(|from| from.layer == Layer::Maybe) {
                from.layer = Layer::Always;
            }
        }
    }

    /// The line of a step, from 1, that says `instruction`; `None` if it is not certain. A trigger of a
    /// base stands where the base does.
    #[must_use]
    pub fn line(&self, place: &Place, instruction: &str) -> Option<usize> {
        let (number, total) = (usize::try_from(place.number).ok()?, place.total.try_into().ok()?);
        let index = number.checked_sub(1)?;
        let shown = squeezed(instruction);
        let mut steps: Vec<&Step> = Vec::new();
        match &place.counted {
            Counted::Layers { stage } => {
                for index in self.named(stage.as_deref()) {
                    let stage = &self.stages[index];
                    // Older versions leave triggers out of the total, and number them.
                    let Some(triggers) = stage.triggers else { continue };
                    if [stage.layers, stage.layers + triggers].contains(&total) {
                        steps.extend(stage.by_layer(number));
                    }
                }
            }
            Counted::OfStage(stage) => {
                let which = match stage {
                    Some(stage) => usize::try_from(*stage).ok()?.checked_sub(1)?,
                    None if self.target == 0 => 0,
                    None => return None,
                };
                let stage = self.stages.get(which).filter(|stage| stage.triggers.is_some())?;
                steps.extend(stage.by_number(index, total));
            }
            Counted::OfFile => {
                let stages = &self.stages[..=self.target];
                let own = || stages.iter().flat_map(Stage::own);
                let count = self.globals + own().count();
                // Labels of the command line are one more at the end.
                if total == count || total == count + 1 {
                    steps.extend(own().nth(index.checked_sub(self.globals)?));
                }
            }
        }
        let says = |step: &&Step| {
            let shown = ["link", "onbuild"]
                .iter()
                .fold(shown.as_str(), |shown, word| shown.strip_prefix(word).unwrap_or(shown));
            step.text.may_be(shown)
        };
        only(steps.into_iter().filter(says).map(|step| step.line))
    }

    /// The line of the `RUN` that gives this text to the default shell, if there is but one.
    #[must_use]
    pub fn line_of_command(&self, command: &str) -> Option<usize> {
        let steps = self.stages[..=self.target].iter().flat_map(|stage| &stage.steps);
        only(steps.filter(|s| s.command.as_deref() == Some(command)).map(|step| step.line))
    }

    /// The stages that BuildKit may call so.
    fn named(&self, name: Option<&str>) -> Vec<usize> {
        let is_it = |index: &usize| match (name, &self.stages[*index].name) {
            (None, _) => self.stages.len() == 1,
            (Some(name), Some(own)) => own.eq_ignore_ascii_case(name),
            (Some(name), None) => name == format!("stage-{index}"),
        };
        (0..self.stages.len()).filter(is_it).collect()
    }
}

/// The one line that all of these are.
fn only(lines: impl Iterator<Item = usize>) -> Option<usize> {
    let lines: BTreeSet<usize> = lines.collect();
    lines.first().copied().filter(|_| lines.len() == 1)
}

impl Step {
    fn new(statement: &Statement) -> Self {
        let name = statement.name.to_ascii_uppercase();
        let layer = match name.as_str() {
            "ADD" | "COPY" | "RUN" => Layer::Always,
            "WORKDIR" if is_surely_a_directory(&statement.rest) => Layer::Always,
            "WORKDIR" => Layer::Maybe,
            _ => Layer::Never,
        };
        let is_shell = name == "RUN" && statement.heredocs.is_empty();
        Self {
            line: statement.line,
            trigger: false,
            // Of a heredoc, each engine shows another part.
            text: Shown::new(&statement.joined.text, !statement.heredocs.is_empty()),
            command: is_shell.then(|| statement.rest.clone()),
            layer,
        }
    }
}

/// Whether a `WORKDIR` makes a directory, whatever came before: it is no `/`, and not relative to one.
fn is_surely_a_directory(path: &str) -> bool {
    let plain = !path.contains(['$', '\\', '`', '"', '\'']);
    plain && path.starts_with('/') && paths::clean(path) != "/"
}
