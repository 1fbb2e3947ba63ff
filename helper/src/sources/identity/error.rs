//! Why an identity that is configured cannot be used.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::environment::NotText;
use crate::openapi::{CallError, EndpointError};
use crate::region::RegionError;
use crate::transport::TransportError;

/// An identity that is configured but gives no keys, and where it was configured.
#[derive(Debug, Error)]
#[error("the RAM identity from {origin} failed: {problem}")]
pub struct IdentityError {
    /// Where it stands: the environment, or a profile of a file.
    pub origin: String,
    /// What is wrong.
    pub problem: Box<Problem>,
}

impl IdentityError {
    pub(super) fn new(origin: impl Into<String>, problem: Problem) -> Self {
        Self { origin: origin.into(), problem: Box::new(problem) }
    }
}

/// What is wrong with an identity. None of these repeats anything that may be secret.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Problem {
    /// One half of a pair.
    #[error("{set} is set but {missing} is not")]
    Incomplete {
        /// The variable that is there.
        set: &'static str,
        /// What should be there too.
        missing: &'static str,
    },
    /// A variable that is no text.
    #[error(transparent)]
    NotText(NotText),
    /// A file that is there cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        error: io::Error,
    },
    /// A file that was named does not exist.
    #[error("{} does not exist, though the environment names it", .0.display())]
    NoFile(PathBuf),
    /// A token file without a token.
    #[error("{} is empty; it should hold an OIDC token", .0.display())]
    Empty(PathBuf),
    /// Not the JSON that it should be.
    #[error("{} is not a valid profile file{}; `aliyun configure` writes it anew", path.display(), at(*line))]
    FileShape {
        /// The file.
        path: PathBuf,
        /// The line, from 1; 0 if it is not known.
        line: usize,
    },
    /// A profile that was asked for is nowhere.
    #[error("there is no profile `{name}`; looked in {places}")]
    NoProfile {
        /// The profile.
        name: String,
        /// The files.
        places: String,
    },
    /// A profile's `source_profile` is not there.
    #[error("its source_profile `{0}` does not exist")]
    NoSourceProfile(String),
    /// Profiles that refer to each other in a circle, or in a very long chain.
    #[error("its source_profile leads in a circle or too far: {0}")]
    Circle(String),
    /// A field that the mode needs.
    #[error("its field `{0}` is missing or wrong")]
    Field(&'static str),
    /// A mode that this program cannot use.
    #[error(
        "its mode or type `{0}` cannot be used for a registry; use AK, StsToken, RamRoleArn, \
         EcsRamRole, ChainableRamRoleArn, OIDC, External, CredentialsURI or CloudSSO"
    )]
    Mode(String),
    /// An endpoint that is not one.
    #[error(transparent)]
    Endpoint(EndpointError),
    /// A region that is not one.
    #[error(transparent)]
    Region(RegionError),
    /// `ALIBABA_CLOUD_DISABLE_EXTERNAL_PROCESS` is on.
    #[error("it asks {0} for keys, which ALIBABA_CLOUD_DISABLE_EXTERNAL_PROCESS forbids here")]
    ExternalDisabled(&'static str),
    /// A command that cannot be split into words.
    #[error("its process_command is empty or has an open quote")]
    CommandLine,
    /// A command that cannot be run.
    #[error("`{program}` cannot be started: {error}")]
    CommandStart {
        /// The program, without its arguments.
        program: String,
        /// The operating system's words.
        error: io::Error,
    },
    /// A command that ended badly.
    #[error("`{program}` failed; run it by hand to see why")]
    CommandFailed {
        /// The program, without its arguments.
        program: String,
    },
    /// A command that did not end.
    #[error("`{program}` took too long and was ended")]
    CommandLate {
        /// The program, without its arguments.
        program: String,
    },
    /// A command that printed something else.
    #[error(
        "its process_command printed something other than a profile as JSON \
         (`mode`, `access_key_id`, ...)"
    )]
    CommandOutput,
    /// A login through a browser that is over.
    #[error(
        "the {mode} login has expired; sign in again with `aliyun configure --profile {profile} --mode {mode}`"
    )]
    LoginExpired {
        /// The profile.
        profile: String,
        /// The mode.
        mode: &'static str,
    },
    /// An ECS instance without a role, or without that role.
    #[error(
        "the ECS instance has no RAM role{}; attach one to the instance", .0.as_ref().map(|role| format!(" `{role}`")).unwrap_or_default()
    )]
    NoInstanceRole(Option<String>),
    /// No identity for a role that is to be taken.
    #[error("there is no identity that could take the role")]
    NoBase,
    /// A request that got no answer.
    #[error("{what} could not be asked: {source}")]
    Transport {
        /// Who was asked.
        what: &'static str,
        /// What went wrong.
        source: TransportError,
    },
    /// A request that cannot be made.
    #[error("the request to {what} cannot be made: {reason}; check what is configured for it")]
    Request {
        /// Who was to be asked.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// An answer of a bad status.
    #[error("{what} answered with HTTP {status}")]
    Status {
        /// Who was asked.
        what: &'static str,
        /// The status.
        status: u16,
    },
    /// An answer with a code of failure.
    #[error("{what} answered with the code {code}")]
    Code {
        /// Who was asked.
        what: &'static str,
        /// The code.
        code: String,
    },
    /// An answer of another shape.
    #[error("{what} answered with something that holds no keys (line {line}, column {column})")]
    Shape {
        /// Who was asked.
        what: &'static str,
        /// The line, from 1.
        line: usize,
        /// The column.
        column: usize,
    },
    /// STS said no or was not there.
    #[error(transparent)]
    Call(CallError),
}

fn at(line: usize) -> String {
    if line == 0 { " (a field is of another kind)".to_owned() } else { format!(" (line {line})") }
}

impl Problem {
    /// A request that the HTTP rules do not allow. The reason names the rule, not the value.
    pub(super) fn request(what: &'static str, error: impl std::error::Error) -> Self {
        Self::Request { what, reason: error.to_string() }
    }
}
