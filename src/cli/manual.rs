//! `smartbuild man` and `smartbuild completions`: both are made from the command line's own
//! definition, so that they say what it says.

use std::io::{self, Write as _};

use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use crate::run;

/// What the definition of the command line does not know.
const VARIABLES: &[(&str, &str)] = &[
    ("IMAGE_URL", "The repository of a pipeline; with CI_PIPELINE_IID, what --tag is otherwise."),
    ("CI_PIPELINE_IID", "The number of the pipeline: the tag beside latest."),
    (
        "REGISTRY_URL, REGISTRY_USERNAME, REGISTRY_PASSWORD, REGISTRY_PASSWORD_FILE",
        "A registry and its login; see docker-credential-aliyun(1).",
    ),
    ("DOCKER_HOST, DOCKER_CONTEXT, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH", "Where the engine is."),
    ("BUILDKIT_HOST, BUILDKIT_TLS_DIR", "Where a buildkitd is."),
    ("SMARTBUILD_ENGINE", "What --engine is otherwise."),
    ("SMARTBUILD_CONFIG", "What --config is otherwise."),
    ("SMARTBUILD_REGISTRY_TIMEOUT", "How many seconds a registry may be silent."),
    ("DOCKER_DEFAULT_PLATFORM", "What --platform is otherwise."),
    ("BUILDKIT_PROGRESS", "What --progress is otherwise."),
    ("SOURCE_DATE_EPOCH", "The latest time that files of the image may have."),
    ("DOCKER_CONFIG", "The directory of config.json, which has the logins."),
    ("NO_COLOR, CLICOLOR, CLICOLOR_FORCE", "Whether there are colours."),
];

const FILES: &[(&str, &str)] = &[
    ("smartbuild.toml", "Settings of the current directory's project."),
    ("Dockerfile.dockerignore, .dockerignore", "What of the context no step can see."),
    ("~/.docker/config.json", "Logins, credential helpers, proxies."),
    ("~/.cache/smartbuild", "What is remembered of files and base images; it can be deleted."),
];

/// Prints the manual page.
pub(super) fn manual(command: clap::Command) -> Result<(), run::Error> {
    let mut page = Vec::new();
    let man = Man::new(command);
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    man.render_subcommands_section(&mut page)?;
    for (title, entries) in [("ENVIRONMENT", VARIABLES), ("FILES", FILES)] {
        let mut section = Roff::new();
        section.control("SH", [title]);
        for (name, meaning) in entries {
            section.control("TP", []).text([bold(*name)]).text([roman(*meaning)]);
        }
        section.to_writer(&mut page)?;
    }
    man.render_extra_section(&mut page)?;
    Ok(io::stdout().write_all(&page)?)
}

/// Prints the completion script of a shell.
pub(super) fn completions(
    shell: clap_complete::Shell,
    command: &mut clap::Command,
) -> Result<(), run::Error> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, command, name, &mut script);
    Ok(io::stdout().write_all(&script)?)
}
