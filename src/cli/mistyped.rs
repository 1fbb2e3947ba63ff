//! What was typed and means nothing, in one sentence with what may have been meant.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// How alike two words have to be to be taken for one another (Jaro-Winkler, 1 is equal).
const ALIKE: f64 = 0.8;

/// The names of `known` that are most like `word`.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |name: &str| strsim::jaro_winkler(word, name);
    let scored = known.into_iter().map(|name| (likeness(name), name));
    let best = scored.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (best.0 >= ALIKE).then_some(best.1)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_slip_finds_the_one_that_was_meant() {
        let known = ["build", "check", "explain"];
        assert_eq!(nearest("buld", known), Some("build"));
        assert_eq!(nearest("chek", known), Some("check"));
        assert_eq!(nearest("app", known), None);
    }
}
