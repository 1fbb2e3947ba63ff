//! The words for how a build ended.

use std::time::Duration;

use super::{Outcome, Report, TagChange};
use crate::{
    context::{Entry, Kind},
    inputs::{Image, ImageIdentity, Inputs, Instruction, Key, Remote},
};

/// The lines that tell a person how it ended: the outcome, then each name.
pub(super) fn lines(report: &Report) -> Vec<String> {
    let short_key: String = report.key.to_string().chars().take(16).collect();
    let head = match report.outcome {
        Outcome::Retagged | Outcome::Unchanged => {
            format!("skipped: the registry has the image of these inputs ({short_key})")
        }
        Outcome::Local => {
            format!("skipped: the engine has the image of these inputs ({short_key})")
        }
        Outcome::Pulled => {
            format!("skipped: pulled the image of these inputs ({short_key})")
        }
        Outcome::Built => format!("built the image of {short_key}"),
    };
    let mut lines = vec![format!("{head} in {}", time(report.duration))];
    for tag in &report.tags {
        let what = match tag.change {
            TagChange::Unchanged => "unchanged",
            TagChange::Moved => "tagged   ",
            TagChange::Pushed => "pushed   ",
            TagChange::Local => "named    ",
        };
        lines.push(format!("  {what} {}", tag.reference.familiar()));
    }
    if let Some(digest) = &report.digest {
        lines.push(format!("  digest    {digest}"));
    } else if let Some(id) = &report.image_id {
        lines.push(format!("  image     {id}"));
    }
    lines
}

/// What is in a key, for a person to read.
#[must_use]
pub fn listing(key: Key, inputs: &Inputs) -> String {
    let mut text = format!("key        {key}\n");
    let mut section = |title: &str, lines: Vec<String>| {
        for (index, line) in lines.into_iter().enumerate() {
            let title = if index == 0 { title } else { "" };
            text += &format!("{title:<10} {line}\n");
        }
    };
    section("platform", inputs.platforms.iter().map(ToString::to_string).collect());
    section("period", inputs.period.iter().cloned().collect());
    let image = |image: &Image| match &image.identity {
        ImageIdentity::Digest(digest) => format!("{} {digest}", image.name),
        ImageIdentity::EngineId(id) => format!("{} {id} (in the engine only)", image.name),
        ImageIdentity::NameOnly => format!("{} (by name)", image.name),
    };
    section("images", inputs.images.iter().map(image).collect());
    let pair = |(name, value): (&String, &String)| format!("{name}={value}");
    let argument = |(name, value): (&String, &Option<String>)| match value {
        Some(value) => format!("{name}={value}"),
        None => format!("{name} (unset)"),
    };
    section("arguments", inputs.arguments.iter().map(argument).collect());
    section("labels", inputs.labels.iter().map(pair).collect());
    section("options", inputs.options.iter().map(pair).collect());
    section("secrets", inputs.secrets.iter().cloned().collect());
    let remote = |remote: &Remote| format!("{} {}", remote.url, remote.identity);
    section("remotes", inputs.remotes.iter().map(remote).collect());
    for stage in &inputs.stages {
        let line = |i: &Instruction| {
            format!("{:>4}  {}", i.line, i.text.replace('\n', "\n                 "))
        };
        section(&format!("stage {}", stage.name), stage.instructions.iter().map(line).collect());
    }
    section("context", inputs.context.entries().map(|entry| row(&entry)).collect());
    for (name, tree) in &inputs.contexts {
        section(&format!("context {name}"), tree.entries().map(|entry| row(&entry)).collect());
    }
    text
}

/// An entry of a context on one line; control characters in names are escaped.
fn row(entry: &Entry<'_>) -> String {
    let path = printable(entry.path);
    match entry.kind {
        Kind::File { digest, .. } => {
            let digest: String = hex::encode(digest).chars().take(12).collect();
            format!("{} {digest} {path}", entry.mode)
        }
        Kind::Directory => format!("{} {:12} {path}/", entry.mode, "directory"),
        Kind::Symlink { target } => {
            format!("{} {:12} {path} -> {}", entry.mode, "link", printable(target))
        }
    }
}

fn printable(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    if text.chars().any(char::is_control) {
        text.escape_debug().to_string()
    } else {
        text.into_owned()
    }
}

/// A duration as people say it: `38 ms`, `2.4 s`, `3 min 7 s`.
fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match duration.as_millis() {
        milliseconds @ 0..1000 => format!("{milliseconds} ms"),
        1000..60_000 => format!("{:.1} s", duration.as_secs_f64()),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_as_people_say_them() {
        for (milliseconds, text) in
            [(0, "0 ms"), (999, "999 ms"), (2_449, "2.4 s"), (187_000, "3 min 7 s")]
        {
            assert_eq!(time(Duration::from_millis(milliseconds)), text);
        }
    }
}
