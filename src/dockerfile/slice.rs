//! What a target image depends on, as far as a Dockerfile says.

use std::collections::{BTreeMap, BTreeSet};

use super::{Feature, ImageKey, ImageUse};

/// The part of a Dockerfile that a target depends on, and what that part reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// The stages that the target reaches, in the order of the file; the target is among them.
    pub stages: Vec<SlicedStage>,
    /// Every image and named context that those stages use, `ONBUILD` triggers included.
    pub images: Vec<ImageUse>,
    /// What they read of the main context and of named contexts.
    pub reads: Vec<ContextRead>,
    /// The build arguments that they declare or use, with the values in force; `None` is declared
    /// without a value, or with one that depends on an unknown base. What nobody declares is not
    /// here, except what steers the build undeclared (`BUILDKIT_*`, `SOURCE_DATE_EPOCH`).
    pub arguments: BTreeMap<String, Option<String>>,
    /// What they fetch with `ADD`.
    pub remotes: Vec<Remote>,
    /// Secrets that they mount.
    pub secrets: Vec<Secret>,
    /// Ids of the ssh agents that they mount (`default` where none is said).
    pub ssh: Vec<Secret>,
    /// Ids of the cache mounts that they use (the target path where none is said).
    pub caches: BTreeSet<String>,
    /// What the engine must be able to do.
    pub features: BTreeSet<Feature>,
    /// Where not everything could be known, and what follows from it.
    pub wider: Vec<Wider>,
}

/// A stage, in canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicedStage {
    /// Its place among all stages of the file, from 0.
    pub index: usize,
    /// Its name, in lower case. The image does not depend on it.
    pub name: Option<String>,
    /// What it starts from.
    pub base: Base,
    /// The `ONBUILD` triggers of the base, as they stand there; `None` if the base is not known.
    pub triggers: Option<Vec<String>>,
    /// Its instructions, `FROM` first, then the `ONBUILD` triggers of the base.
    pub instructions: Vec<SlicedInstruction>,
    /// The stages that it starts from, copies from or mounts: their places in [`Slice::stages`].
    pub uses: BTreeSet<usize>,
}

/// What a stage starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage: its place in [`Slice::stages`].
    Stage(usize),
    /// An image.
    Image(ImageKey),
    /// A named context.
    Context(String),
}

/// An instruction, in canonical form: two with the same text do the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicedInstruction {
    /// The line of the file that it starts on, from 1; of the `FROM` for an `ONBUILD` trigger.
    pub line: usize,
    /// Name, flags and arguments, without comments and formatting, words expanded.
    pub text: String,
}

/// Something that is read of a build context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextRead {
    /// The stage that reads: its place in [`Slice::stages`].
    pub stage: usize,
    /// The name of the context; `None` is the main one.
    pub context: Option<String>,
    /// The line of the instruction.
    pub line: usize,
    /// What is read.
    pub kind: ReadKind,
}

/// What is read of a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadKind {
    /// The sources of a `COPY` or `ADD`.
    Copy {
        /// Expanded, and cleaned as BuildKit cleans them: relative to the context, without `.`,
        /// `..` and a slash at the end; `.` is all of it. Wildcards and their escapes are kept.
        sources: Vec<String>,
        /// `--parents`: `**` is a wildcard too.
        parents: bool,
        /// The patterns of `--exclude`. Those with a `$` are left out, since versions of the
        /// frontend differ about their expansion.
        exclude: Vec<String>,
    },
    /// A bind mount of this path, cleaned as above.
    Bind {
        /// Relative to the context; `.` is all of it.
        source: String,
    },
    /// All of it.
    All,
}

/// Something that `ADD` fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The line of the instruction.
    pub line: usize,
    /// The source as the instruction says it, expanded.
    pub source: String,
    /// What it is.
    pub kind: RemoteKind,
}

/// What kind of thing an `ADD` fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteKind {
    /// One file.
    Http {
        /// `--checksum`: it is this content or the build fails.
        checksum: Option<String>,
    },
    /// A git repository at a ref.
    Git(super::GitSource),
}

/// A secret or ssh agent that a `RUN` mounts. Its value is never an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The id that the command line gives it a value by.
    pub id: String,
    /// The line of the instruction.
    pub line: usize,
    /// Whether the build fails without it.
    pub required: bool,
}

/// Something that is not known, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wider {
    /// The line that it is about, from 1.
    pub line: usize,
    /// What follows from it.
    pub effect: Effect,
    /// Why, in one sentence.
    pub reason: String,
}

/// What follows from something that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// The whole context is read ([`Slice::reads`] says so too).
    WholeContext,
    /// No key can cover it: the build must not be skipped.
    NotSkippable,
}
