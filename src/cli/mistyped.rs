//! What was typed and means nothing, in one sentence with what may have been meant.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What is wrong with a command line, where the parser's own words would lead astray: it takes an
/// unknown option for a value of the context, and a word after the context for a subcommand.
/// `typed` is all of it.
pub(super) fn explained(
    error: &clap::Error,
    typed: &[String],
    subcommands: &[String],
) -> Option<String> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let option = context(ContextKind::InvalidArg).filter(|arg| arg.starts_with('-'))?;
            let advice = match option.split('=').next().unwrap_or_default() {
                "--destination" => " (write --tag NAME and --push)".to_owned(),
                "--builder" => {
                    " (--engine, BUILDKIT_HOST and DOCKER_HOST say what builds)".to_owned()
                }
                _ => match context(ContextKind::SuggestedArg) {
                    Some(near) => format!(" (did you mean {near}?)"),
                    None => String::new(),
                },
            };
            Some(format!("there is no option {option}{advice}; smartbuild --help lists them"))
        }
        ErrorKind::ArgumentConflict => {
            let word = context(ContextKind::InvalidSubcommand)?;
            Some(match typed.iter().find(|typed| subcommands.contains(typed)) {
                Some(name) => format!(
                    "options and the context come after the subcommand: smartbuild {name} ..."
                ),
                None => format!("`{word}` is one word too many: one context is built"),
            })
        }
        _ => None,
    }
}
