//! The command line: what was typed, which command it is, and which exit code it ends with.
//!
//! Knows arguments and exit codes; must not know how anything is done.

mod build;
mod check;
mod doctor;
mod explain;
mod inputs;
mod key;
mod manual;
mod mistyped;
mod options;
mod prune;

use std::{io, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};

pub use options::{BuildCommand, BuildOptions};

use crate::{
    engine::BuildError,
    nearest::nearest,
    run::{self, Signal, World},
    settings::{self, Environment, Request},
};

/// Builds and pushes an image, unless the registry already has the image of these inputs.
#[derive(Debug, Parser)]
#[command(
    name = "smartbuild",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = AFTER_HELP
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    build: BuildCommand,
}

const EXPLAIN_HELP: &str = "\
Examples:
  smartbuild explain registry.example.com/team/app:latest   since that image
  smartbuild explain before.json                            since inputs that were saved
  smartbuild explain ../yesterday .                         between two directories";

const AFTER_HELP: &str = "\
Examples:
  smartbuild -t registry.cn-hangzhou.aliyuncs.com/team/app:1 --push .
  smartbuild --push              in GitLab CI, with IMAGE_URL set: tags $CI_PIPELINE_IID and latest
  smartbuild check .             would the build be skipped?

Exit codes: 0 done, 1 a step of the Dockerfile failed (check: would build),
2 usage or configuration, 3 registry, credentials or engine,
130 interrupted, 143 terminated.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Build and push, unless there is nothing to do (the default command)
    Build(BuildCommand),
    /// Print the key of the image: the digest of everything it depends on
    Key(BuildCommand),
    /// Print what is in the key
    Inputs(BuildCommand),
    /// Say whether a build would be skipped; builds nothing
    Check(BuildCommand),
    /// Say what stands between this machine and a build, and what to do about it
    Doctor(BuildCommand),
    /// Say what changed since an image was built, or between two builds
    #[command(after_help = EXPLAIN_HELP)]
    Explain {
        /// How to build.
        #[command(flatten)]
        options: BuildOptions,
        /// What to compare: an image, a directory, or a file from `smartbuild inputs --json`
        /// [default: the first tag's image, and the current directory]
        #[arg(value_name = "BEFORE [AFTER]", num_args = 0..=2)]
        sides: Vec<String>,
    },
    /// Delete images of old keys from a registry, and their records
    Prune(prune::PruneOptions),
    /// Print a completion script, for example for
    /// ~/.local/share/bash-completion/completions/smartbuild
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, for man -l - or a file smartbuild.1
    Man,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for is done.
    Done,
    /// A step of the Dockerfile failed; for `check`: the build would not be skipped.
    BuildFailed,
    /// The command line or the configuration is wrong.
    Usage,
    /// The registry, the credentials or the engine.
    Outside,
    /// A signal.
    Stopped(Signal),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::BuildFailed => 1,
            Exit::Usage => 2,
            Exit::Outside => 3,
            // As shells count it.
            Exit::Stopped(signal) => 128 + signal.number(),
        })
    }
}

/// Reads the command line of this process, does what it says and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // The reader of --help may be gone; that is not an error.
            if !error.use_stderr() {
                let _ = error.print();
                return Exit::Done.into();
            }
            let typed: Vec<_> =
                std::env::args_os().skip(1).filter_map(|word| word.into_string().ok()).collect();
            match mistyped::explained(&error, &typed, &subcommands()) {
                Some(sentence) => crate::report::complain(&settings::Error::Conflict(sentence)),
                None => drop(error.print()),
            }
            return Exit::Usage.into();
        }
    };
    match run_command(cli) {
        Ok(exit) => exit.into(),
        // Nobody reads on: that is no error of ours.
        Err(run::Error::Stdout(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Exit::Done.into()
        }
        Err(error) => {
            crate::report::complain(&error);
            exit_code(&error).into()
        }
    }
}

fn run_command(cli: Cli) -> Result<Exit, run::Error> {
    let request = |BuildCommand { options, context }: BuildCommand| {
        Request::new(&options, context, &Environment::capture())
    };
    let Some(command) = cli.command else {
        return build::run(&request(cli.build).map_err(or_a_subcommand)?);
    };
    match command {
        Command::Build(command) => build::run(&request(command)?),
        Command::Key(command) => key::run(&request(command)?),
        Command::Inputs(command) => inputs::run(&request(command)?),
        Command::Check(command) => check::run(&request(command)?),
        Command::Doctor(command) => doctor::run(&request(command)?),
        Command::Prune(options) => prune::run(&options),
        Command::Completions { shell } => {
            manual::completions(shell, &mut Cli::command()).map(|()| Exit::Done)
        }
        Command::Man => manual::manual(Cli::command()).map(|()| Exit::Done),
        Command::Explain { options, sides } => {
            let tagged = !options.tag.is_empty();
            explain::run(&request(BuildCommand { options, context: None })?, &sides, tagged)
        }
    }
}

/// The names of the subcommands.
fn subcommands() -> Vec<String> {
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

/// A context that is not there, in the place of a subcommand, may have been meant as one.
fn or_a_subcommand(error: settings::Error) -> settings::Error {
    let settings::Error::Context { path, why } = error else { return error };
    let known = subcommands();
    let near = nearest(&path, known.iter().map(String::as_str));
    let why = match near.filter(|_| !path.contains(['/', '.'])) {
        Some(name) => format!("{why} (did you mean smartbuild {name}?)"),
        None => why,
    };
    settings::Error::Context { path, why }
}

/// The exit code that says what kind of thing went wrong.
fn exit_code(error: &run::Error) -> Exit {
    use run::Error as E;
    match error {
        E::Registry(error) if error.is_configuration() => Exit::Usage,
        E::Base { source, .. } if source.is_configuration() => Exit::Usage,
        E::Settings(_)
        | E::NoDockerfile { .. }
        | E::Dockerfile(_)
        | E::Pin(_)
        | E::UnplacedImage { .. }
        | E::Ignore { .. }
        | E::Context(_)
        | E::ImageName { .. }
        | E::Build(
            BuildError::Dockerfile { .. }
            | BuildError::Secret { .. }
            | BuildError::Agent { .. }
            | BuildError::Unreadable { .. },
        )
        | E::Explain(_)
        | E::Write { .. } => Exit::Usage,
        E::Stopped { signal, .. } => Exit::Stopped(*signal),
        E::Build(BuildError::Step { .. } | BuildError::ContextChanged { .. }) => Exit::BuildFailed,
        E::Stdout(_)
        | E::Runtime(_)
        | E::Base { .. }
        | E::NoBase { .. }
        | E::NoStage { .. }
        | E::Registry(_)
        | E::NoEngine { .. }
        | E::Engine(_)
        | E::Build(_)
        | E::Moved(_)
        | E::Strict(_) => Exit::Outside,
    }
}

/// Runs `work` to its end, or to a signal: then it is dropped, which cancels what it has under way.
fn carry_out<T>(
    world: &World,
    work: impl Future<Output = Result<T, run::Error>>,
) -> Result<T, run::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(run::Error::Runtime)?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = work => {
                run::end_at_the_next_signal();
                result
            }
            signal = run::first_signal() => {
                // To cancel may take a while, too.
                run::end_at_the_next_signal();
                Err(run::Error::Stopped { signal, publishing: world.is_publishing() })
            }
        }
    });
    // Threads that wait for somebody else, a helper or a reader, are not waited for.
    runtime.shutdown_background();
    result
}
