//! What differs between two inputs, for people who ask why an image was built again.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Display},
};

use serde::Serialize;

use super::{Image, ImageIdentity, Inputs, Stage};
use crate::{
    context::{Entry, Kind},
    platform::Platform,
};

/// Everything that differs between two inputs, the telling things first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The changes, from those that touch the whole build to single files.
    pub changes: Vec<Change>,
}

/// One thing that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Change {
    /// For which platforms; none stands for all that were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
    /// What kind of input it is.
    pub subject: Subject,
    /// Which one: a path, an image, an argument.
    pub name: String,
    /// What it was; absent when it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What it is now; absent when it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// The kinds of inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The platforms built for.
    Platforms,
    /// A period of `--refresh` began.
    Period,
    /// A base image or another image that the build reads.
    Image,
    /// An instruction of the Dockerfile.
    Instruction,
    /// A build argument.
    Argument,
    /// A label of the command line.
    Label,
    /// Another option of the build.
    Option,
    /// A secret or ssh agent that the build mounts.
    Secret,
    /// Something fetched from outside.
    Remote,
    /// A file, directory or link of a context.
    File,
}

impl Difference {
    /// What is in `after` that was not so in `before`, and the reverse.
    #[must_use]
    pub fn between(before: &Inputs, after: &Inputs) -> Self {
        let mut changes = Vec::new();
        let platforms = |inputs: &Inputs| -> String {
            inputs.platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let whole = |subject, name: &str, before: Option<String>, after: Option<String>| {
            (before != after).then(|| Change::new(subject, name, before, after))
        };
        changes.extend(whole(
            Subject::Platforms,
            "platform",
            Some(platforms(before)),
            Some(platforms(after)),
        ));
        changes.extend(whole(
            Subject::Period,
            "period",
            before.period.clone(),
            after.period.clone(),
        ));

        let image = |image: &Image| {
            let name = match &image.platform {
                Some(platform) => format!("{} for {platform}", image.name),
                None => image.name.clone(),
            };
            let identity = match &image.identity {
                ImageIdentity::Digest(digest) => digest.to_string(),
                ImageIdentity::EngineId(digest) => format!("{digest} in the engine"),
                ImageIdentity::NameOnly => "by name".to_owned(),
            };
            (name, identity)
        };
        compare(
            &mut changes,
            Subject::Image,
            map(&before.images, image),
            map(&after.images, image),
        );
        instructions(&mut changes, &before.stages, &after.stages);

        let argument = |(name, value): (&String, &Option<String>)| {
            (name.clone(), value.clone().unwrap_or_else(|| "(unset)".to_owned()))
        };
        compare(
            &mut changes,
            Subject::Argument,
            before.arguments.iter().map(argument).collect(),
            after.arguments.iter().map(argument).collect(),
        );
        compare(&mut changes, Subject::Label, before.labels.clone(), after.labels.clone());
        compare(&mut changes, Subject::Option, before.options.clone(), after.options.clone());
        let secret = |id: &String| (id.clone(), "mounted".to_owned());
        compare(
            &mut changes,
            Subject::Secret,
            map(&before.secrets, secret),
            map(&after.secrets, secret),
        );
        let remote = |remote: &super::Remote| (remote.url.clone(), remote.identity.clone());
        compare(
            &mut changes,
            Subject::Remote,
            map(&before.remotes, remote),
            map(&after.remotes, remote),
        );
        compare(&mut changes, Subject::File, files(before), files(after));
        Self { changes }
    }

    /// What differs for several platforms: once where it is the same for all, else for which.
    #[must_use]
    pub fn of_platforms(differences: Vec<(Platform, Self)>) -> Self {
        let all = differences.len();
        let mut places: HashMap<Change, usize> = HashMap::new();
        let mut changes: Vec<Change> = Vec::new();
        for (platform, difference) in differences {
            for change in difference.changes {
                let place = *places.entry(change).or_insert_with_key(|change| {
                    changes.push(change.clone());
                    changes.len() - 1
                });
                changes[place].platforms.push(platform.clone());
            }
        }
        for change in changes.iter_mut().filter(|change| change.platforms.len() == all) {
            change.platforms.clear();
        }
        changes.sort_by_key(|change| change.subject);
        Self { changes }
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The first changes as one clause: ``` `app.py` changed, base `python:3.12` moved and 3 more ```.
    #[must_use]
    pub fn summary(&self) -> String {
        const SHOWN: usize = 3;
        let mut text =
            self.changes.iter().take(SHOWN).map(Change::brief).collect::<Vec<_>>().join(", ");
        if self.changes.len() > SHOWN {
            text += &format!(" and {} more", self.changes.len() - SHOWN);
        }
        text
    }
}

impl Change {
    fn new(subject: Subject, name: &str, before: Option<String>, after: Option<String>) -> Self {
        Self { subject, name: name.to_owned(), before, after, platforms: Vec::new() }
    }

    /// What happened, in a few words.
    fn brief(&self) -> String {
        let platforms: Vec<_> = self.platforms.iter().map(ToString::to_string).collect();
        match platforms.as_slice() {
            [] => self.what(),
            platforms => format!("{} for {}", self.what(), platforms.join(", ")),
        }
    }

    fn what(&self) -> String {
        let Self { subject, name, before, after, platforms: _ } = self;
        let verb = match (before, after, subject) {
            (None, _, _) => "added",
            (_, None, _) => "removed",
            (_, _, Subject::Image | Subject::Remote) => "moved",
            _ => "changed",
        };
        match subject {
            Subject::Platforms => format!("the platform {verb}"),
            Subject::Period => "a new refresh period began".to_owned(),
            Subject::Image => format!("image `{name}` {verb}"),
            Subject::Instruction => format!("{name} {verb}"),
            Subject::Argument => format!("argument `{name}` {verb}"),
            Subject::Label => format!("label `{name}` {verb}"),
            Subject::Option => format!("option `{name}` {verb}"),
            Subject::Secret => format!("secret `{name}` {verb}"),
            Subject::Remote => format!("`{name}` {verb}"),
            Subject::File => format!("`{name}` {verb}"),
        }
    }
}

impl Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.brief())?;
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, ": was {before}, is {after}"),
            (Some(value), None) | (None, Some(value)) => write!(f, ": {value}"),
            (None, None) => Ok(()),
        }
    }
}

fn map<T>(
    items: impl IntoIterator<Item = T>,
    pair: impl Fn(T) -> (String, String),
) -> BTreeMap<String, String> {
    items.into_iter().map(pair).collect()
}

fn compare(
    changes: &mut Vec<Change>,
    subject: Subject,
    mut before: BTreeMap<String, String>,
    after: BTreeMap<String, String>,
) {
    for (name, after) in after {
        let before = before.remove(&name);
        if before.as_ref() != Some(&after) {
            changes.push(Change::new(subject, &name, before, Some(after)));
        }
    }
    let gone = before.into_iter();
    changes.extend(gone.map(|(name, value)| Change::new(subject, &name, Some(value), None)));
}

/// Instructions stage by stage: what both begin and end with is the same; the rest is paired in order.
fn instructions(changes: &mut Vec<Change>, before: &[Stage], after: &[Stage]) {
    let stages = |stages: &[Stage]| -> BTreeMap<String, usize> {
        stages.iter().enumerate().map(|(index, stage)| (stage.name.clone(), index)).collect()
    };
    let (old, new) = (stages(before), stages(after));
    for (name, index) in &new {
        let none = Vec::new();
        let before = old.get(name).map_or(&none, |index| &before[*index].instructions);
        let after = &after[*index].instructions;
        let same = |(a, b): &(&super::Instruction, &super::Instruction)| a.text == b.text;
        let head = before.iter().zip(after).take_while(same).count();
        let (before, after) = (&before[head..], &after[head..]);
        let tail = before.iter().rev().zip(after.iter().rev()).take_while(same).count();
        let (before, after) = (&before[..before.len() - tail], &after[..after.len() - tail]);
        for pair in 0..before.len().max(after.len()) {
            let (was, is) = (before.get(pair), after.get(pair));
            let line = is.or(was).map_or(0, |instruction| instruction.line);
            let (was, is) = (was.map(|i| i.text.clone()), is.map(|i| i.text.clone()));
            let name = format!("Dockerfile line {line}");
            changes.push(Change::new(Subject::Instruction, &name, was, is));
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        let (name, before) = (format!("stage `{name}`"), "part of the build".to_owned());
        changes.push(Change::new(Subject::Instruction, &name, Some(before), None));
    }
}

fn files(inputs: &Inputs) -> BTreeMap<String, String> {
    let named = inputs.contexts.iter().map(|(name, entries)| (format!("{name}:"), entries));
    std::iter::once((String::new(), &inputs.context))
        .chain(named)
        .flat_map(|(prefix, entries)| {
            entries.entries().map(move |entry| {
                (format!("{prefix}{}", String::from_utf8_lossy(entry.path)), describe(&entry))
            })
        })
        .collect()
}

fn describe(entry: &Entry<'_>) -> String {
    let mode = entry.mode;
    match entry.kind {
        Kind::File { digest, size } => {
            let digest: String = hex::encode(digest).chars().take(12).collect();
            format!("a file of {size} bytes, {digest}, mode {mode}")
        }
        Kind::Directory => format!("a directory, mode {mode}"),
        Kind::Symlink { target } => format!("a link to {}", String::from_utf8_lossy(target)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::tests::{file, sample, tree},
        *,
    };
    use crate::{context::Mode, inputs::Instruction, registry::Digest};

    fn said(change: impl Fn(&mut Inputs)) -> String {
        let mut after = sample();
        change(&mut after);
        Difference::between(&sample(), &after).summary()
    }

    #[test]
    fn what_did_not_change_is_not_mentioned() {
        assert!(Difference::between(&sample(), &sample()).is_empty());
        assert_eq!(said(|i| i.stages[0].instructions[0].line = 9), "");
    }

    #[test]
    fn each_change_is_named_in_words() {
        let first = |name, mode, kind| {
            said(|i| {
                i.context = Arc::new(tree(&[
                    ("", name, mode, kind),
                    ("", "b", Mode::EXECUTABLE, Kind::Directory),
                    ("b", "\u{e4}", Mode::LINK, Kind::Symlink { target: b"../a" }),
                ]));
            })
        };
        assert_eq!(first("a", Mode::PLAIN, file(b"other")), "`a` changed");
        assert_eq!(first("a", Mode::EXECUTABLE, file(b"hello")), "`a` changed");
        assert_eq!(first("A", Mode::PLAIN, file(b"hello")), "`A` added, `a` removed");
        assert_eq!(
            said(|i| i.images[0].identity = ImageIdentity::Digest(Digest::of(b"new"))),
            "image `alpine:3` moved"
        );
        assert_eq!(
            said(|i| i.stages[0].instructions[1].text.push('y')),
            "Dockerfile line 4 changed"
        );
        assert_eq!(said(|i| drop(i.arguments.remove("VERSION"))), "argument `VERSION` removed");
        assert_eq!(said(|i| i.period = Some("2026-W49".into())), "a new refresh period began");
    }

    #[test]
    fn an_inserted_instruction_does_not_blame_those_after_it() {
        let added = Instruction { line: 2, text: "RUN true".into() };
        assert_eq!(
            said(|i| i.stages[0].instructions.insert(1, added.clone())),
            "Dockerfile line 2 added"
        );
    }

    #[test]
    fn what_differs_for_one_platform_only_says_so() {
        let change = |text: &str| {
            let mut after = sample();
            after.labels.insert("team".into(), "web".into());
            after.arguments.insert("VERSION".into(), Some(text.into()));
            Difference::between(&sample(), &after)
        };
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        let both =
            vec![(platform("linux/amd64"), change("1")), (platform("linux/arm64"), change("2"))];
        assert_eq!(
            Difference::of_platforms(both).summary(),
            "argument `VERSION` changed for linux/arm64, label `team` changed"
        );
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let many = said(|i| {
            for n in 0..9 {
                let name = format!("new{n}");
                Arc::make_mut(&mut i.context).push(
                    b"",
                    name.as_bytes(),
                    Mode::EXECUTABLE,
                    Kind::Directory,
                );
            }
        });
        assert_eq!(many, "`new0` added, `new1` added, `new2` added and 6 more");
    }
}
