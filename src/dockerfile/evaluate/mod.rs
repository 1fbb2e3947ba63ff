//! From the stages that a target reaches to what they depend on.
//!
//! Walks the instructions in order, with the variables that each of them sees
//! (`moby/buildkit: frontend/dockerfile/dockerfile2llb/convert.go`, `convert_copy.go`,
//! `convert_runmount.go`).

mod run;
mod transfer;

use std::collections::BTreeMap;

use super::{
    Base, BaseImage, ContextRead, Dockerfile, Effect, Feature, ImageKey, ReadKind, Request, Slice,
    SlicedInstruction, SlicedStage, Wider,
    arguments::{Pair, Word},
    canonical::{self, Line},
    error::Fault,
    instruction::{Argument, Command, Instruction, Kind},
    stages,
    stages::{Graph, Reached, Source},
    variables::Variables,
};

/// Build arguments that no instruction needs to declare: they steer the build itself.
pub(super) fn steers(name: &str) -> bool {
    name.starts_with("BUILDKIT_") || name == "SOURCE_DATE_EPOCH"
}

pub(super) fn slice(
    file: &Dockerfile,
    request: &Request,
    bases: &BTreeMap<ImageKey, BaseImage>,
) -> Result<Slice, Fault> {
    let graph = Graph::new(file, request)?;
    let (reached, images) = graph.reach(bases)?;
    let places = reached.iter().enumerate().map(|(place, stage)| (stage.index, place)).collect();
    let mut evaluation = Evaluation {
        request,
        bases,
        graph: &graph,
        escape: file.escape,
        places,
        ends: Vec::new(),
        slice: Slice { images, ..Slice::default() },
    };
    evaluation.frontend(file);
    for stage in &reached {
        evaluation.stage(stage)?;
    }
    evaluation.steering();
    if !request.contexts.is_empty() {
        evaluation.slice.features.insert(Feature::NamedContext);
    }
    Ok(evaluation.slice)
}

struct Evaluation<'a> {
    request: &'a Request,
    bases: &'a BTreeMap<ImageKey, BaseImage>,
    graph: &'a Graph<'a>,
    escape: char,
    /// The places of the stages of the file among those that are reached.
    places: BTreeMap<usize, usize>,
    /// The variables at the end of each stage so far.
    ends: Vec<Variables>,
    slice: Slice,
}

/// The result of expanding something: done, or the name of a variable that is not known.
type Expansion<T> = Result<T, String>;

/// A name and its value, each expanded or not.
type ExpandedPair = (Expansion<Word>, Expansion<Word>);

/// A stage under way.
struct State {
    index: usize,
    variables: Variables,
    instructions: Vec<SlicedInstruction>,
}

impl Evaluation<'_> {
    fn widen(&mut self, line: usize, effect: Effect, reason: impl Into<String>) {
        let reason = reason.into();
        self.slice.wider.push(Wider { line, effect, reason });
    }

    /// Everything of the main context is read.
    fn read_all(&mut self, line: usize, reason: impl Into<String>) {
        self.read(None, line, ReadKind::All);
        self.widen(line, Effect::WholeContext, reason);
    }

    fn read(&mut self, context: Option<String>, line: usize, kind: ReadKind) {
        let stage = self.slice.stages.len();
        self.slice.reads.push(ContextRead { stage, context, line, kind });
    }

    fn frontend(&mut self, file: &Dockerfile) {
        let Some(frontend) = file.frontend(self.request) else { return };
        if !frontend.known {
            let reason = format!(
                "the frontend `{}` is not known: it may read anything, in any language",
                frontend.image
            );
            self.read_all(frontend.line, reason.as_str());
            self.widen(frontend.line, Effect::NotSkippable, reason);
        }
    }

    /// Build arguments that count although nobody declares them.
    fn steering(&mut self) {
        let scopes = self.request.build_args.iter().chain(&self.graph.globals);
        for (name, value) in scopes.filter(|(name, _)| steers(name)) {
            self.slice.arguments.entry(name.clone()).or_insert_with(|| Some(value.clone()));
        }
        let epoch = self.slice.arguments.get("SOURCE_DATE_EPOCH").cloned().flatten();
        if let Some(epoch) =
            epoch.filter(|epoch| !epoch.is_empty() && epoch.parse::<i64>().is_err())
        {
            self.widen(
                1,
                Effect::NotSkippable,
                format!("SOURCE_DATE_EPOCH={epoch} takes the time from what is fetched"),
            );
        }
    }

    fn stage(&mut self, reached: &Reached<'_>) -> Result<(), Fault> {
        let stage = self.graph.stage(reached.index);
        let node = &self.graph.nodes[reached.index];
        for name in &node.used {
            let value = self.graph.globals.get(name).cloned();
            self.slice.arguments.insert(name.clone(), value);
        }
        let base = match &node.source {
            Source::Scratch => Base::Scratch,
            Source::Stage(index) => Base::Stage(self.places[index]),
            Source::Image(key, _) => Base::Image(key.clone()),
            Source::Context(name, _) => Base::Context(name.clone()),
        };
        let variables = match &node.source {
            Source::Stage(index) => self.ends[self.places[index]].of_stage(),
            Source::Scratch => {
                Variables::of_base(Some(&BaseImage::default()), &self.request.platform)
            }
            Source::Image(key, _) | Source::Context(_, key) => {
                let known = self.bases.get(key);
                if known.is_none() && !node.replaced {
                    self.read_all(
                        stage.line,
                        format!(
                            "the configuration of `{}` is not known: it may have ONBUILD triggers",
                            key.name
                        ),
                    );
                }
                Variables::of_base(known, &key.platform)
            }
        };
        if let Source::Context(name, _) = &node.source {
            self.read(Some(name.clone()), stage.line, ReadKind::All);
        }
        let from = SlicedInstruction { line: stage.line, text: self.from(&node.source) };
        let mut state = State { index: reached.index, variables, instructions: vec![from] };
        for step in &reached.steps {
            let instruction = step.instruction.as_ref();
            self.instruction(&mut state, instruction).map_err(|fault| {
                if !step.trigger {
                    return fault;
                }
                // Its offsets are those of the trigger.
                let message = format!("an ONBUILD trigger of the base: {}", fault.message);
                Fault { at: stage.from.base.at, message, ..fault }
            })?;
        }
        let State { variables, instructions, .. } = state;
        self.ends.push(variables);
        let name = stage.from.name.clone();
        let uses = reached.uses.iter().map(|index| self.places[index]).collect();
        let index = reached.index;
        let triggers = self.graph.triggers(index, self.bases);
        let stage = SlicedStage { index, name, base, triggers, instructions, uses };
        self.slice.stages.push(stage);
        Ok(())
    }

    fn from(&self, source: &Source) -> String {
        let mut line = Line::new("FROM");
        if let Source::Image(key, _) | Source::Context(_, key) = source
            && key.platform != self.request.platform
        {
            line.flag("platform", Some(&key.platform.to_string()));
        }
        line.push(&self.origin(source));
        line.finish()
    }

    /// What something is taken from, in canonical form.
    fn origin(&self, source: &Source) -> String {
        match source {
            Source::Scratch => "scratch".to_owned(),
            // Neither can be the name of an image.
            Source::Stage(index) => format!("stage={}", self.places[index]),
            Source::Context(name, _) => format!("context={}", canonical::word(name)),
            Source::Image(key, _) => canonical::word(&key.name).into_owned(),
        }
    }

    fn expand(&mut self, state: &State, word: &Word) -> Result<Expansion<Word>, Fault> {
        let expansion = stages::expand(word, self.escape, &state.variables)?;
        if expansion.patterns {
            self.slice.features.insert(Feature::Patterns);
        }
        Ok(match expansion.unknown {
            None => Ok(Word { text: expansion.text, at: word.at }),
            Some(name) => Err(name),
        })
    }

    fn expand_all<'w>(
        &mut self,
        state: &State,
        words: impl IntoIterator<Item = &'w Word>,
    ) -> Result<Expansion<Vec<Word>>, Fault> {
        words.into_iter().map(|word| self.expand(state, word)).collect()
    }

    fn instruction(&mut self, state: &mut State, instruction: &Instruction) -> Result<(), Fault> {
        let line = instruction.line;
        let text = match &instruction.kind {
            Kind::From(_) => return Ok(()),
            Kind::Arg(arguments) => return self.arg(state, arguments, line),
            Kind::Add(transfer) => self.transfer(state, transfer, instruction, "ADD")?,
            Kind::Copy(transfer) => self.transfer(state, transfer, instruction, "COPY")?,
            Kind::Run(run) => self.run(state, run, instruction)?,
            Kind::Env(pairs) => self.env(state, pairs)?,
            Kind::Label(pairs) => {
                let expanded = self.pairs(state, pairs)?;
                self.pairs_text("LABEL", pairs, &expanded)
            }
            Kind::User(word) => self.words(state, "USER", std::slice::from_ref(word))?,
            Kind::Workdir(word) => self.words(state, "WORKDIR", std::slice::from_ref(word))?,
            Kind::Stopsignal(word) => {
                self.words(state, "STOPSIGNAL", std::slice::from_ref(word))?
            }
            Kind::Volume(words) => self.volumes(state, words)?,
            Kind::Expose(words) => self.expose(state, words)?,
            Kind::Cmd(command) => Line::new("CMD").command(command),
            Kind::Entrypoint(command) => Line::new("ENTRYPOINT").command(command),
            Kind::Healthcheck(health) => Line::new("HEALTHCHECK").health(health),
            Kind::Maintainer(word) => single("MAINTAINER", &word.text),
            Kind::Onbuild(text) => single("ONBUILD", text),
            Kind::Shell(words) => Line::new("SHELL").command(&Command::Exec(words.clone())),
        };
        state.instructions.push(SlicedInstruction { line, text });
        Ok(())
    }

    /// The line of an instruction whose words could not be expanded: they are written as they stand,
    /// which together with what comes before says as much.
    fn unexpanded(&self, name: &str) -> Line {
        let mut line = Line::new(name);
        line.flag("unexpanded", Some(self.escape.encode_utf8(&mut [0; 4])));
        line
    }

    fn words(&mut self, state: &State, name: &str, words: &[Word]) -> Result<String, Fault> {
        let expanded = self.expand_all(state, words)?;
        let mut line = match &expanded {
            Ok(_) => Line::new(name),
            Err(_) => self.unexpanded(name),
        };
        line.words(texts(expanded.as_deref().unwrap_or(words)));
        Ok(line.finish())
    }

    fn volumes(&mut self, state: &State, words: &[Word]) -> Result<String, Fault> {
        let expanded = self.expand_all(state, words)?.unwrap_or_default();
        if let Some(empty) = expanded.iter().find(|word| word.text.is_empty()) {
            return Err(Fault::invalid(empty.at, "this VOLUME expands to nothing"));
        }
        self.words(state, "VOLUME", words)
    }

    /// The order of ports does not matter. They are divided into words after expansion, which
    /// versions of the frontend do in different ways, so they are never written expanded.
    fn expose(&mut self, state: &State, words: &[Word]) -> Result<String, Fault> {
        self.expand_all(state, words)?.ok();
        // As they stand, words mean the same whichever character escapes, unless one of them is there.
        let mut line = match words.iter().any(|word| word.text.contains(['\\', '`'])) {
            true => self.unexpanded("EXPOSE"),
            false => Line::new("EXPOSE"),
        };
        let mut ports: Vec<&str> = texts(words).collect();
        ports.sort_unstable();
        line.words(ports);
        Ok(line.finish())
    }

    fn pairs(&mut self, state: &State, pairs: &[Pair]) -> Result<Vec<ExpandedPair>, Fault> {
        pairs
            .iter()
            .map(|pair| Ok((self.expand(state, &pair.name)?, self.expand(state, &pair.value)?)))
            .collect()
    }

    fn pairs_text(&self, name: &str, pairs: &[Pair], expanded: &[ExpandedPair]) -> String {
        let known: Result<Vec<_>, _> = expanded
            .iter()
            .map(|(name, value)| Ok::<_, &String>((name.as_ref()?, value.as_ref()?)))
            .collect();
        let mut line;
        if let Ok(known) = known {
            line = Line::new(name);
            known.iter().for_each(|(name, value)| line.pair(&name.text, &value.text));
        } else {
            line = self.unexpanded(name);
            pairs.iter().for_each(|pair| line.pair(&pair.name.text, &pair.value.text));
        }
        line.finish()
    }

    fn env(&mut self, state: &mut State, pairs: &[Pair]) -> Result<String, Fault> {
        let expanded = self.pairs(state, pairs)?;
        let text = self.pairs_text("ENV", pairs, &expanded);
        for (name, value) in expanded {
            match name {
                Ok(name) => state.variables.env(name.text, value.ok().map(|value| value.text)),
                Err(_) => state.variables.forget(),
            }
        }
        Ok(text)
    }

    /// Each name is an instruction of its own here, with the value in force.
    fn arg(&mut self, state: &mut State, arguments: &[Argument], line: usize) -> Result<(), Fault> {
        for Argument { name, default } in arguments {
            let given = self.request.build_args.get(name);
            let mut text = Line::new("ARG");
            let value = match (given, default) {
                (Some(value), _) => Some(Ok(value.clone())),
                (None, Some(default)) => Some(self.expand(state, default)?.map(|word| word.text)),
                (None, None) => self.graph.globals.get(name).cloned().map(Ok),
            };
            match &value {
                Some(Ok(value)) => text.pair(name, value),
                None => text.words([name.as_str()]),
                Some(Err(_)) => {
                    text = self.unexpanded("ARG");
                    text.pair(name, default.as_ref().map_or("", |default| &default.text));
                }
            }
            state.instructions.push(SlicedInstruction { line, text: text.finish() });
            let value = value.map(Result::ok);
            self.slice.arguments.insert(name.clone(), value.clone().flatten());
            // These two never become variables.
            if let Some(value) = value
                && !["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"]
                    .contains(&name.as_str())
            {
                state.variables.arg(name.clone(), value);
            }
        }
        Ok(())
    }
}

fn texts(words: &[Word]) -> impl Iterator<Item = &str> {
    words.iter().map(|word| word.text.as_str())
}

fn single(name: &str, text: &str) -> String {
    let mut line = Line::new(name);
    line.words([text]);
    line.finish()
}
