//! What a Dockerfile asks of the engine that builds it.

/// Something that not every engine can do.
///
/// The classic builder can do none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Feature {
    /// `RUN --mount`.
    RunMount,
    /// `RUN --mount=type=secret,env=`.
    SecretEnv,
    /// `RUN --network`.
    RunNetwork,
    /// `RUN --security`.
    RunSecurity,
    /// `RUN --device`.
    RunDevice,
    /// `<<EOF`.
    Heredoc,
    /// `COPY --chmod`, `ADD --chmod`.
    Chmod,
    /// `COPY --link`, `ADD --link`.
    Link,
    /// `COPY --parents`.
    Parents,
    /// `COPY --exclude`, `ADD --exclude`.
    Exclude,
    /// `ADD` of a git repository.
    AddGit,
    /// `ADD --checksum`.
    AddChecksum,
    /// `ADD --unpack`.
    AddUnpack,
    /// `${name#pattern}`, `${name%pattern}`, `${name/pattern/replacement}`.
    Patterns,
    /// A named context: `--build-context`.
    NamedContext,
}

impl Feature {
    /// The first version 1 frontend that has it, as the minor number: 4 for `docker/dockerfile:1.4`.
    /// (`moby/buildkit: frontend/dockerfile/docs/reference.md`)
    #[must_use]
    pub fn frontend(self) -> u32 {
        match self {
            Self::RunMount | Self::Chmod => 2,
            Self::RunNetwork => 3,
            Self::Heredoc | Self::Link | Self::NamedContext => 4,
            Self::AddGit | Self::AddChecksum => 6,
            Self::Patterns => 7,
            Self::SecretEnv => 10,
            Self::RunDevice => 14,
            Self::AddUnpack => 17,
            Self::Exclude => 19,
            Self::RunSecurity | Self::Parents => 20,
        }
    }

    /// How a person would name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RunMount => "RUN --mount",
            Self::SecretEnv => "RUN --mount=type=secret,env=",
            Self::RunNetwork => "RUN --network",
            Self::RunSecurity => "RUN --security",
            Self::RunDevice => "RUN --device",
            Self::Heredoc => "here-documents",
            Self::Chmod => "--chmod",
            Self::Link => "--link",
            Self::Parents => "COPY --parents",
            Self::Exclude => "--exclude",
            Self::AddGit => "ADD of a git repository",
            Self::AddChecksum => "ADD --checksum",
            Self::AddUnpack => "ADD --unpack",
            Self::Patterns => "${name#pattern} and its like",
            Self::NamedContext => "--build-context",
        }
    }
}
