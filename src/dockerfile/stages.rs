//! Stages, what they start from, and which of them a target reaches
//! (`moby/buildkit: frontend/dockerfile/dockerfile2llb/convert.go`).
//!
//! Knows global arguments and names; what the instructions of a stage do is not known here.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{
    BaseImage, Dockerfile, ImageKey, ImageUse, Replaced, Request, Role,
    arguments::Word,
    error::{Fault, NOWHERE},
    images,
    instruction::{self, From, Instruction, Kind},
    lex,
    mount::Origin,
    words::{Empty, Expansion, Lexer, Scope, WordError},
};
use crate::platform::Platform;

/// A stage as it stands in the file.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) line: usize,
    pub(super) at: usize,
    pub(super) from: From,
    pub(super) body: Vec<Instruction>,
}

/// Divides instructions into global arguments and stages.
pub(super) fn divide(
    instructions: Vec<Instruction>,
) -> Result<(Vec<Instruction>, Vec<Stage>), Fault> {
    let mut globals = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    for instruction in instructions {
        let Instruction { line, at, .. } = instruction;
        match (instruction.kind, stages.last_mut()) {
            (Kind::From(from), _) => stages.push(Stage { line, at, from, body: Vec::new() }),
            (kind, Some(stage)) => stage.body.push(Instruction { kind, ..instruction }),
            (kind @ Kind::Arg(_), None) => globals.push(Instruction { kind, ..instruction }),
            (_, None) => {
                return Err(Fault::invalid(at, "only ARG can stand before the first FROM"));
            }
        }
    }
    if stages.is_empty() {
        return Err(Fault::invalid(NOWHERE, "there is no FROM in the file"));
    }
    Ok((globals, stages))
}

/// The names of stages; one name can stand for many, of which a later one hides an earlier one.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(BTreeMap<String, Vec<usize>>);

impl Names {
    pub(super) fn of(stages: &[Stage]) -> Self {
        let mut names = Self::default();
        for (index, stage) in stages.iter().enumerate() {
            if let Some(name) = &stage.from.name {
                names.0.entry(name.clone()).or_default().push(index);
            }
        }
        names
    }

    /// The last stage of this name.
    fn last(&self, name: &str) -> Option<usize> {
        self.before(name, usize::MAX)
    }

    /// The last stage of this name that comes before another.
    fn before(&self, name: &str, stage: usize) -> Option<usize> {
        let indices = self.0.get(name)?;
        indices[..indices.partition_point(|&index| index < stage)].last().copied()
    }
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Scratch,
    /// The stage of this number.
    Stage(usize),
    /// An image, and the named context that stands for it in the text, if one does.
    Image(ImageKey, Option<String>),
    /// A named context that is a directory, and the image whose place it takes.
    Context(String, ImageKey),
}

/// Where something that is used is named.
enum Place {
    /// In these bytes.
    Name(Range<usize>),
    /// By being the stage of this number, which is replaced.
    Stage(usize),
    /// In a trigger of the base of the stage that begins there.
    Trigger(usize),
}

/// A stage with its names resolved.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) source: Source,
    /// The whole stage is replaced by a named context; its instructions do not count.
    pub(super) replaced: bool,
    /// The global arguments that its `FROM` looks at.
    pub(super) used: BTreeSet<String>,
}

/// An instruction of a stage, or a trigger that its base put there.
#[derive(Clone, Debug)]
pub(super) struct Step<'a> {
    pub(super) instruction: Cow<'a, Instruction>,
    pub(super) trigger: bool,
}

/// The stages of a file as one request sees them.
pub(super) struct Graph<'a> {
    file: &'a Dockerfile,
    request: &'a Request,
    /// Global arguments and those of the platforms.
    pub(super) globals: BTreeMap<String, String>,
    pub(super) nodes: Vec<Node>,
    pub(super) target: usize,
}

/// A stage that the target reaches.
pub(super) struct Reached<'a> {
    pub(super) index: usize,
    pub(super) steps: Vec<Step<'a>>,
    /// The stages that it uses itself.
    pub(super) uses: BTreeSet<usize>,
}

impl<'a> Graph<'a> {
    pub(super) fn new(file: &'a Dockerfile, request: &'a Request) -> Result<Self, Fault> {
        let globals = globals(file, request)?;
        let target = target(file, request)?;
        let mut graph = Self { file, request, globals, nodes: Vec::new(), target };
        for stage in &file.stages {
            let node = graph.node(stage)?;
            graph.nodes.push(node);
        }
        Ok(graph)
    }

    pub(super) fn stage(&self, index: usize) -> &'a Stage {
        &self.file.stages[index]
    }

    /// What a stage starts from. Only the stages before it are nodes yet.
    fn node(&self, stage: &Stage) -> Result<Node, Fault> {
        let From { base, platform, name, .. } = &stage.from;
        let Expansion { text, mut used, .. } = self.expand(base)?;
        if text.is_empty() {
            return Err(Fault::invalid(
                base.at,
                format!("`{}` expands to nothing: FROM needs an image", base.text),
            ));
        }
        let platform = match platform {
            None => self.request.platform.clone(),
            Some(word) => {
                let expansion = self.expand(word)?;
                used.extend(expansion.used);
                expansion.text.parse().map_err(|error| {
                    Fault::not_understood(word.at, format!("--platform: {error}"))
                })?
            }
        };
        let node = |source, replaced| Node { source, replaced, used };
        if let Some(context) = name.as_deref().and_then(|name| self.context(name, &platform)) {
            let key = ImageKey { name: context.clone(), platform };
            return Ok(node(self.named(context, key), true));
        }
        // Names of stages are in lower case, and compared as they are here.
        if let Some(index) = self.file.names.before(&text, self.nodes.len()) {
            return Ok(node(Source::Stage(index), false));
        }
        Ok(node(self.elsewhere(text, platform), false))
    }

    /// What a name stands for that is not a stage.
    fn elsewhere(&self, name: String, platform: Platform) -> Source {
        if name == "scratch" {
            return Source::Scratch;
        }
        let context = self.context(&name, &platform);
        let key = ImageKey { name, platform };
        match context {
            None => Source::Image(key, None),
            Some(context) => self.named(context, key),
        }
    }

    /// What a named context is, in the place of an image.
    fn named(&self, context: String, key: ImageKey) -> Source {
        match self.request.images.get(&context) {
            None => Source::Context(context, key),
            Some(image) => {
                let key = ImageKey { name: image.clone(), platform: key.platform };
                Source::Image(key, Some(context))
            }
        }
    }

    /// The named context of this name.
    fn context(&self, name: &str, platform: &Platform) -> Option<String> {
        if ["scratch", "context"].iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            return None;
        }
        let name = images::familiar(name);
        let Request { contexts, images, .. } = self.request;
        let is_given = |name: &String| contexts.contains(name) || images.contains_key(name);
        [format!("{name}::{platform}"), name].into_iter().find(is_given)
    }

    fn expand(&self, word: &Word) -> Result<Expansion, Fault> {
        expand(word, self.file.escape, &self.globals)
    }

    /// What `COPY --from` names, in a stage.
    pub(super) fn copy_from(
        &self,
        stage: usize,
        origin: &Origin,
        at: usize,
    ) -> Result<Source, Fault> {
        let name = &origin.name;
        let plain = Lexer::new(self.file.escape).word(name, &Empty);
        if plain.is_ok_and(|expansion| expansion.text != *name) {
            return Err(Fault::invalid(
                at,
                "--from takes no variables: name a stage `FROM` them instead",
            ));
        }
        match name.parse::<i64>() {
            Ok(number) => match usize::try_from(number) {
                Ok(index) if index < self.nodes.len() => self.earlier(stage, index, name, at),
                _ => Err(Fault::not_understood(at, format!("there is no stage {number}"))),
            },
            Err(_) => self.mount_from(stage, origin, at),
        }
    }

    /// What `from` of a mount names, in a stage: never a number.
    pub(super) fn mount_from(
        &self,
        stage: usize,
        origin: &Origin,
        at: usize,
    ) -> Result<Source, Fault> {
        let lower = origin.name.to_lowercase();
        match self.file.names.last(&lower) {
            Some(index) => self.earlier(stage, index, &origin.name, at),
            None => Ok(self.elsewhere(origin.name.clone(), self.request.platform.clone())),
        }
    }

    fn earlier(&self, stage: usize, index: usize, name: &str, at: usize) -> Result<Source, Fault> {
        if index < stage {
            return Ok(Source::Stage(index));
        }
        let what = if index == stage { "is this one" } else { "comes later" };
        Err(Fault::invalid(at, format!("stage `{name}` {what}: only an earlier one can be read")))
    }

    /// The stages that the target reaches, in the order of the file, and the places where they use
    /// what is not a stage.
    pub(super) fn reach(
        &self,
        bases: &BTreeMap<ImageKey, BaseImage>,
    ) -> Result<(Vec<Reached<'a>>, Vec<ImageUse>), Fault> {
        let mut reached: BTreeMap<usize, Reached<'a>> = BTreeMap::new();
        let mut images = Vec::new();
        let mut open = vec![self.target];
        while let Some(index) = open.pop() {
            if reached.contains_key(&index) {
                continue;
            }
            let Stage { line, from, .. } = self.stage(index);
            let node = &self.nodes[index];
            let mut uses = BTreeSet::new();
            let place = match node.replaced {
                false => Place::Name(from.base.at..from.base_end),
                true => Place::Stage(index),
            };
            self.follow(&node.source, Role::Base, *line, place, &mut uses, &mut images)?;
            let steps = self.steps(index, bases)?;
            for step in &steps {
                let Instruction { line, at, .. } = *step.instruction;
                let mut follow = |source, role, span: &Range<usize>| {
                    let place = match step.trigger {
                        false => Place::Name(span.clone()),
                        true => Place::Trigger(at),
                    };
                    self.follow(&source, role, line, place, &mut uses, &mut images)
                };
                match &step.instruction.kind {
                    Kind::Copy(transfer) => {
                        if let Some(origin) = &transfer.from {
                            follow(self.copy_from(index, origin, at)?, Role::Copy, &origin.span)?;
                        }
                    }
                    Kind::Run(run) => {
                        for origin in run.mounts.iter().filter_map(|mount| mount.from.as_ref()) {
                            follow(self.mount_from(index, origin, at)?, Role::Mount, &origin.span)?;
                        }
                    }
                    _ => {}
                }
            }
            open.extend(&uses);
            reached.insert(index, Reached { index, steps, uses });
        }
        images.sort_by_key(|found| (found.line, found.role, found.end));
        Ok((reached.into_values().collect(), images))
    }

    fn follow(
        &self,
        source: &Source,
        role: Role,
        line: usize,
        place: Place,
        uses: &mut BTreeSet<usize>,
        images: &mut Vec<ImageUse>,
    ) -> Result<(), Fault> {
        let (key, context, replaced) = match source {
            Source::Scratch => return Ok(()),
            Source::Stage(index) => {
                uses.insert(*index);
                return Ok(());
            }
            Source::Image(key, None) => (key, None, None),
            Source::Image(key, Some(context)) => (key, None, Some(self.replaced(context, &place)?)),
            Source::Context(name, key) => (key, Some(name.clone()), None),
        };
        let end = match place {
            Place::Name(span) if replaced.is_none() => Some(span.end),
            _ => None,
        };
        images.push(ImageUse { key: key.clone(), role, line, end, context, replaced });
        Ok(())
    }

    /// What an image takes the place of, where a context stands for it.
    fn replaced(&self, context: &str, place: &Place) -> Result<Replaced, Fault> {
        let (span, stage) = match place {
            Place::Name(span) => (span.clone(), None),
            Place::Stage(index) => (
                self.file.stage_start(*index)..self.file.stage_start(index + 1),
                self.stage(*index).from.name.clone(),
            ),
            Place::Trigger(at) => {
                let why = format!(
                    "an ONBUILD trigger of the base reads the build context `{context}`: there it has \
                     to be a directory, for the name of an image could not be put in its place"
                );
                return Err(Fault::invalid(*at, why));
            }
        };
        Ok(Replaced { context: context.to_owned(), span, stage })
    }

    /// The triggers of a stage's base, as they stand there; `None` if the base is not known.
    pub(super) fn triggers(
        &self,
        index: usize,
        bases: &BTreeMap<ImageKey, BaseImage>,
    ) -> Option<Vec<String>> {
        let node = &self.nodes[index];
        match &node.source {
            _ if node.replaced => Some(Vec::new()),
            Source::Scratch => Some(Vec::new()),
            Source::Image(key, _) | Source::Context(_, key) => {
                Some(bases.get(key)?.onbuild.clone())
            }
            Source::Stage(base) => {
                let body = self.stage(*base).body.iter();
                let triggers = body.filter_map(|step| match &step.kind {
                    Kind::Onbuild(text) => Some(text.clone()),
                    _ => None,
                });
                Some(triggers.collect())
            }
        }
    }

    /// The instructions of a stage behind its `FROM`, the triggers of its base first.
    fn steps(
        &self,
        index: usize,
        bases: &BTreeMap<ImageKey, BaseImage>,
    ) -> Result<Vec<Step<'a>>, Fault> {
        if self.nodes[index].replaced {
            return Ok(Vec::new());
        }
        let stage = self.stage(index);
        let triggers = self.triggers(index, bases).unwrap_or_default().into_iter().map(|text| {
            let instruction = Cow::Owned(trigger(&text, stage)?);
            Ok(Step { instruction, trigger: true })
        });
        let body = stage.body.iter().map(|instruction| {
            Ok(Step { instruction: Cow::Borrowed(instruction), trigger: false })
        });
        triggers.chain(body).collect()
    }
}

/// Reads an `ONBUILD` trigger, as an instruction of the stage that it is triggered in.
fn trigger(text: &str, stage: &Stage) -> Result<Instruction, Fault> {
    let read = lex::lex_trigger(text).and_then(|statement| instruction::read(&statement, '\\'));
    let instruction = read.and_then(|instruction| match instruction.kind {
        Kind::From(_) => Err(Fault::invalid(0, "FROM cannot be a trigger")),
        Kind::Onbuild(_) => Err(Fault::not_understood(0, "ONBUILD as a trigger")),
        _ => Ok(instruction),
    });
    match instruction {
        Ok(instruction) => Ok(Instruction { line: stage.line, at: stage.at, ..instruction }),
        Err(fault) => Err(Fault {
            at: stage.from.base.at,
            message: format!("the ONBUILD trigger `{text}` of the base: {}", fault.message),
            ..fault
        }),
    }
}

/// Expands a word where every variable is known.
pub(super) fn expand(word: &Word, escape: char, scope: &dyn Scope) -> Result<Expansion, Fault> {
    Lexer::new(escape).word(&word.text, scope).map_err(|WordError { kind, message }| Fault {
        kind,
        at: word.at,
        message: format!("`{}`: {message}", word.text),
    })
}

/// The stage to build.
pub(super) fn target(file: &Dockerfile, request: &Request) -> Result<usize, Fault> {
    let Some(name) = &request.target else { return Ok(file.stages.len() - 1) };
    file.names.last(&name.to_lowercase()).ok_or_else(|| {
        let names: Vec<&str> =
            file.stages.iter().filter_map(|stage| stage.from.name.as_deref()).collect();
        let known = if names.is_empty() {
            "no stage has a name".to_owned()
        } else {
            format!("there is {}", names.join(", "))
        };
        Fault::invalid(NOWHERE, format!("there is no stage `{name}` to build: {known}"))
    })
}

/// The scope of `FROM`: the arguments of the platforms, then the `ARG`s before the first `FROM`.
fn globals(file: &Dockerfile, request: &Request) -> Result<BTreeMap<String, String>, Fault> {
    let Request { target, build_args, platform, build_platform, .. } = request;
    let last = file.stages.last().and_then(|stage| stage.from.name.as_deref());
    let stage = target.as_deref().or(last).unwrap_or("default");
    let mut globals = BTreeMap::from([("TARGETSTAGE".to_owned(), stage.to_owned())]);
    for (side, platform) in [("BUILD", build_platform), ("TARGET", platform)] {
        let Platform { os, architecture, variant } = platform;
        for (what, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", os.clone()),
            ("OSVERSION", String::new()),
            ("ARCH", architecture.clone()),
            ("VARIANT", variant.clone().unwrap_or_default()),
        ] {
            globals.insert(format!("{side}{what}"), value);
        }
    }
    for (name, value) in &mut globals {
        if let Some(given) = build_args.get(name) {
            value.clone_from(given);
        }
    }
    for instruction in &file.globals {
        let Kind::Arg(arguments) = &instruction.kind else { continue };
        for argument in arguments {
            let value = match (build_args.get(&argument.name), &argument.default) {
                (Some(given), _) => given.clone(),
                (None, Some(default)) => expand(default, file.escape, &globals)?.text,
                (None, None) => continue,
            };
            globals.insert(argument.name.clone(), value);
        }
    }
    Ok(globals)
}
