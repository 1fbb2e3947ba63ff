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

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

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

/// What an engine may show of an instruction: its text, with variables expanded or not, and quotes and
/// blanks taken away or not.
#[derive(Clone, Debug)]
struct Shown {
    /// What stands before, between and behind variables.
    pieces: Vec<String>,
    /// Whether more may follow.
    open: bool,
}

impl Shown {
    fn new(text: &str, open: bool) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            pieces.push(squeezed(before));
            rest = behind_variable(after);
        }
        pieces.push(squeezed(rest));
        Self { pieces, open }
    }

    /// Whether a squeezed text can be it.
    fn may_be(&self, shown: &str) -> bool {
        let Some((first, others)) = self.pieces.split_first() else { return false };
        let Some(mut rest) = shown.strip_prefix(first.as_str()) else { return false };
        let Some((last, between)) = others.split_last() else {
            return self.open || rest.is_empty();
        };
        for piece in between {
            let Some(at) = rest.find(piece.as_str()) else { return false };
            rest = &rest[at + piece.len()..];
        }
        if self.open { rest.contains(last.as_str()) } else { rest.ends_with(last.as_str()) }
    }
}

/// What follows the name of a variable. What is no variable is gone by likewise: anything may stand
/// there.
fn behind_variable(text: &str) -> &str {
    let Some(braced) = text.strip_prefix('{') else {
        return text.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    };
    let mut depth = 1_usize;
    for (at, c) in braced.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &braced[at + 1..];
        }
    }
    ""
}

/// A text without what engines change of it.
fn squeezed(text: &str) -> String {
    let kept = text.chars().filter(|c| !c.is_whitespace() && !"\"'\\`".contains(*c));
    kept.map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dockerfile::{BaseImage, parse};

    fn lines_with(text: &str, target: Option<&str>, triggers: &[&str]) -> Lines {
        let request = Request {
            target: target.map(str::to_owned),
            ..Request::new("linux/amd64".parse().unwrap())
        };
        let file = parse(text.as_bytes()).unwrap();
        let base = BaseImage {
            onbuild: triggers.iter().map(ToString::to_string).collect(),
            ..BaseImage::default()
        };
        let images = file.images(&request).unwrap().into_iter();
        let bases = images.map(|found| (found.key, base.clone())).collect();
        let slice = file.slice(&request, &bases).unwrap();
        file.lines(&request, &slice).unwrap()
    }

    fn lines(text: &str) -> Lines {
        lines_with(text, None, &[])
    }

    /// The line of `[build 2/5] RUN make`.
    fn buildkit(lines: &Lines, name: &str) -> Option<usize> {
        let (place, instruction) = name.strip_prefix('[').unwrap().split_once("] ").unwrap();
        let (stage, numbers) = match place.trim().rsplit_once(' ') {
            Some((stage, numbers)) => (Some(stage.trim().to_owned()), numbers),
            None => (None, place),
        };
        let (number, total) = numbers.trim().split_once('/').unwrap();
        let (number, total) = (number.parse().unwrap(), total.parse().unwrap());
        lines.line(&Place { counted: Counted::Layers { stage }, number, total }, instruction)
    }

    #[test]
    fn a_step_of_buildkit_is_found_by_its_stage_and_number() {
        let text = "# syntax=docker/dockerfile:1\nFROM a AS Build\nENV A=b\n\nCOPY x /\n\
                    RUN one \\\n  # why\n  two\n\nFROM scratch\nARG V\nCOPY --from=build /x /\n\
                    FROM build\nRUN one two\nCOPY --from=1 /x /w\nRUN last\n";
        let lines = lines(text);
        for (name, line) in [
            ("[build 1/3] FROM docker.io/library/a", None),
            ("[build 2/3] COPY x /", Some(5)),
            ("[build 3/3] RUN one   two", Some(6)),
            ("[stage-1 1/1] COPY --from=build /x /", Some(12)),
            ("[stage-2 1/3] RUN one two", Some(14)),
            ("[stage-2 3/3] RUN last", Some(16)),
            // What does not fit is not given.
            ("[build 3/4] RUN one two", None),
            ("[build 3/3] RUN one", None),
            ("[build 9/3] RUN one two", None),
            ("[build 0/3] RUN one two", None),
            ("[other 3/3] RUN one two", None),
            ("[3/3] RUN one two", None),
        ] {
            assert_eq!(buildkit(&lines, name), line, "{name}");
        }
    }

    #[test]
    fn a_stage_that_is_alone_has_no_name_unless_an_image_is_copied_from() {
        let lines = lines("FROM a AS one\nRUN x\nCOPY --from=b y /\n");
        assert_eq!(buildkit(&lines, "[2/3] RUN x"), Some(2));
        assert_eq!(buildkit(&lines, "[one 2/3] RUN x"), Some(2));
    }

    #[test]
    fn a_directory_that_is_the_root_has_no_number() {
        let text = "FROM a\nWORKDIR /\nRUN x\nRUN y\nWORKDIR .\nRUN z\nRUN z\n";
        let mut lines = lines(text);
        let from = Place { counted: Counted::Layers { stage: None }, number: 1, total: 7 };
        lines.heard_of(&from, "FROM docker.io/library/a");
        assert_eq!(buildkit(&lines, "[2/7] RUN x"), Some(3));
        assert_eq!(buildkit(&lines, "[3/7] RUN y"), Some(4));
        assert_eq!(buildkit(&lines, "[3/7] RUN x"), Some(3), "if / were a layer");
        assert_eq!(buildkit(&lines, "[5/7] RUN z"), None, "which one?");
    }

    #[test]
    fn a_base_without_files_has_no_number() {
        let text = "FROM a\nRUN x\nRUN y\nRUN y\n";
        let mut lines = lines(text);
        assert_eq!(buildkit(&lines, "[1/4] RUN x"), Some(2));
        assert_eq!(buildkit(&lines, "[2/4] RUN y"), Some(3));
        assert_eq!(buildkit(&lines, "[3/4] RUN y"), None, "which one?");
        let from = Place { counted: Counted::Layers { stage: None }, number: 1, total: 4 };
        lines.heard_of(&from, "FROM docker.io/library/a@sha256:12");
        assert_eq!(buildkit(&lines, "[3/4] RUN y"), Some(3));
        assert_eq!(buildkit(&lines, "[4/4] RUN y"), Some(4));
    }

    #[test]
    fn triggers_of_a_base_shift_what_follows_and_stand_where_the_base_does() {
        let text = "FROM a AS one\nRUN x\nONBUILD RUN t\nFROM one\nRUN y\n";
        let lines = lines_with(text, None, &["ENV A=b", "RUN trigger"]);
        for (name, line) in [
            // Before v0.20 of BuildKit, triggers are not in the total.
            ("[one 2/2] RUN trigger", Some(1)),
            ("[one 3/2] RUN x", Some(2)),
            ("[one 2/4] ONBUILD RUN trigger", Some(1)),
            ("[one 3/4] RUN x", Some(2)),
            ("[one 3/3] RUN x", None),
            ("[stage-1 1/1] RUN t", Some(4)),
            ("[stage-1 2/1] RUN y", Some(5)),
        ] {
            assert_eq!(buildkit(&lines, name), line, "{name}");
        }
        let of_stage = |stage, number, total, instruction| {
            lines
                .line(&Place { counted: Counted::OfStage(Some(stage)), number, total }, instruction)
        };
        assert_eq!(of_stage(1, 2, 3, "RUN x"), Some(2), "triggers that were not run");
        assert_eq!(of_stage(1, 4, 5, "RUN x"), Some(2));
        assert_eq!(of_stage(1, 3, 5, "RUN trigger"), Some(1));
        assert_eq!(of_stage(2, 3, 3, "RUN y"), Some(5));
        assert_eq!(of_stage(2, 3, 5, "RUN y"), None);
    }

    #[test]
    fn a_base_that_is_not_known_may_have_triggers() {
        let text = "FROM a\nRUN x\n";
        let request = Request::new("linux/amd64".parse().unwrap());
        let file = parse(text.as_bytes()).unwrap();
        let slice = file.slice(&request, &BTreeMap::new()).unwrap();
        let lines = file.lines(&request, &slice).unwrap();
        assert_eq!(buildkit(&lines, "[2/2] RUN x"), None);
        let place = Place { counted: Counted::OfFile, number: 2, total: 2 };
        assert_eq!(lines.line(&place, "RUN x"), Some(2), "the classic builder counts none");
    }

    #[test]
    fn the_classic_builder_counts_every_instruction_up_to_the_target() {
        let text = "ARG A\nARG B=1\nFROM a AS one\nARG C\nRUN x\nFROM a\nRUN y\n";
        let of = |target, number, total, instruction| {
            let place = Place { counted: Counted::OfFile, number, total };
            lines_with(text, target, &[]).line(&place, instruction)
        };
        assert_eq!(of(None, 7, 7, "RUN y"), Some(7));
        assert_eq!(of(None, 5, 8, "RUN x"), Some(5), "with a label");
        assert_eq!(of(Some("one"), 5, 5, "RUN x"), Some(5));
        assert_eq!(of(Some("one"), 7, 7, "RUN y"), None);
        assert_eq!(of(None, 5, 7, "RUN z"), None);
        assert_eq!(of(None, 2, 7, "ARG B=1"), None);
    }

    #[test]
    fn variables_quotes_and_blanks_do_not_hide_an_instruction() {
        let text = "FROM a\nENV D=/d\nCOPY \"a\" $D/x\nCOPY a ${D:-${E}}/y\n\
                    run echo  '$D' $(pwd) \\\n x\nRUN <<E\nfirst\nE\n";
        let lines = lines(text);
        for (name, line) in [
            ("[2/5] COPY a /d/x", Some(3)),
            ("[3/5] COPY a /d/y", Some(4)),
            ("[3/5] COPY a /d/z", None),
            ("[4/5] RUN echo  '$D' $(pwd)  x", Some(5)),
            ("[4/5] RUN echo $(pwd) '/d' x", None),
            ("[5/5] RUN <<E (first)", Some(7)),
        ] {
            assert_eq!(buildkit(&lines, name), line, "{name}");
        }
    }

    #[test]
    fn a_command_is_found_where_there_is_but_one() {
        let lines = lines("FROM a AS b\nRUN --network=none exit 3\nRUN x\nFROM b\nRUN x\n");
        assert_eq!(lines.line_of_command("exit 3"), Some(2));
        assert_eq!(lines.line_of_command("x"), None);
        assert_eq!(lines.line_of_command("y"), None);
    }

    #[test]
    fn a_place_prints_as_editors_read_it() {
        let at = |file: Option<&str>| Location { file: file.map(str::to_owned), line: 7 };
        assert_eq!(at(Some("docker/app.Dockerfile")).to_string(), "docker/app.Dockerfile:7");
        assert_eq!(at(None).to_string(), "line 7");
    }

    /// An instruction, and whether BuildKit counts it; `RUN` comes as often as all else.
    fn instruction() -> impl Strategy<Value = (String, bool)> {
        prop_oneof![
            3 => "[ab]{1,2}".prop_map(|word| (format!("RUN {word}"), true)),
            1 => Just(("COPY \\\n  # what\n\n  x /".to_owned(), true)),
            1 => Just(("WORKDIR /w".to_owned(), true)),
            1 => Just(("\n# a comment\nENV A=1".to_owned(), false)),
            1 => Just(("LABEL l=1".to_owned(), false)),
        ]
    }

    proptest! {
        /// What each engine would call a step leads to its line, as the engines' own rules number it.
        #[test]
        fn every_step_is_found_or_not_given(
            made in prop::collection::vec(
                (any::<bool>(), prop::collection::vec(instruction(), 0..5)), 1..4
            ),
        ) {
            let mut text = "ARG G=1\n".to_owned();
            let line_of = |text: &str| text.lines().count() + 1;
            // Line, text, stage, and the numbers of BuildKit, buildah and the classic builder.
            let mut steps: Vec<(usize, String, usize, [usize; 3])> = Vec::new();
            let mut totals = Vec::new();
            let mut in_file = 1;
            for (index, (before, body)) in made.iter().enumerate() {
                let from_stage = *before && index > 0;
                let base = if from_stage { format!("s{}", index - 1) } else { "base".to_owned() };
                text.push_str(&format!("FROM {base} AS s{index}\n"));
                let (mut layers, mut of_stage) = (usize::from(!from_stage), 1);
                in_file += 1;
                for (instruction, counts) in body {
                    in_file += 1;
                    of_stage += 1;
                    layers += usize::from(*counts);
                    if *counts {
                        let shown = instruction.replace("\\\n  # what\n\n", "");
                        let numbers = [layers, of_stage, in_file];
                        steps.push((line_of(&text), shown, index, numbers));
                    }
                    text.push_str(instruction);
                    text.push('\n');
                }
                totals.push((layers, of_stage));
            }
            let target = format!("s{}", made.len() - 1);
            let mut lines = lines_with(&text, Some(&target), &[]);
            let small = |number: usize| u32::try_from(number).unwrap();
            let name = |index: usize| (made.len() > 1).then(|| format!("s{index}"));
            for (index, (before, _)) in made.iter().enumerate() {
                let counted = Counted::Layers { stage: name(index) };
                if !(*before && index > 0) {
                    let place = Place { counted, number: 1, total: small(totals[index].0) };
                    lines.heard_of(&place, "FROM docker.io/library/base");
                }
            }
            for (line, shown, stage, [layer, number, through]) in steps {
                let (layers, all) = totals[stage];
                let place = |counted, number, total| Place {
                    counted, number: small(number), total: small(total),
                };
                // A stage that the target does not reach is not built by these.
                if lines.stages[stage].triggers.is_some() {
                    let counted = Counted::Layers { stage: name(stage) };
                    let found = lines.line(&place(counted, layer, layers), &shown);
                    prop_assert_eq!(found, Some(line), "{}\n{}", &text, &shown);
                    let counted = Counted::OfStage((made.len() > 1).then(|| small(stage + 1)));
                    let found = lines.line(&place(counted, number, all), &shown);
                    prop_assert_eq!(found, Some(line), "{}\n{}", &text, &shown);
                }
                let found = lines.line(&place(Counted::OfFile, through, in_file), &shown);
                prop_assert_eq!(found, Some(line), "{}\n{}", &text, &shown);
            }
        }

        #[test]
        fn nothing_that_an_engine_says_panics(
            stage in prop::option::of("[a-z0-9-]{0,8}"),
            number: u32, total: u32, kind in 0..3_u8, small: bool, shown in ".{0,20}",
        ) {
            let (number, total) = if small { (number % 4, total % 4) } else { (number, total) };
            let counted = match kind {
                0 => Counted::Layers { stage },
                1 => Counted::OfStage(Some(number)),
                _ => Counted::OfFile,
            };
            let mut lines = lines("ARG A\nFROM a\nRUN $\nFROM b\nRUN ${\n");
            let place = Place { counted, number, total };
            lines.heard_of(&place, "FROM ");
            let _ = lines.line(&place, &shown);
        }
    }
}
