//! `RUN --mount=` (`moby/buildkit: frontend/dockerfile/instructions/commands_runmount.go`).

use std::ops::Range;

use super::{
    arguments, canonical,
    error::Fault,
    flags::Value,
    paths,
    words::{Expansion, WordError},
};

/// A mount as it stands in the text: its values are words to be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where the flag begins in the source.
    pub(super) at: usize,
    fields: Vec<String>,
    /// What it mounts from, which cannot be expanded.
    pub(super) from: Option<Origin>,
}

/// The name of a stage, image or context in a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) name: String,
    /// Where it stands in the source.
    pub(super) span: Range<usize>,
}

impl Origin {
    /// The one that ends with the character `last` of a flag's value.
    pub(super) fn new(name: &str, value: &Value, last: Option<usize>) -> Self {
        let end_of = |character: usize| value.ends.get(character).copied();
        let end = last.and_then(end_of).unwrap_or(value.at);
        // A name has no character of more than one byte.
        let first = last.and_then(|last| (last + 1).checked_sub(name.chars().count()));
        let start = first.and_then(end_of).map_or(end, |end| end.saturating_sub(1));
        Self { name: name.to_owned(), span: start..end }
    }
}

/// The types of mounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum MountType {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

/// A mount with its values expanded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) kind: MountType,
    /// Cleaned; `.` is all of it.
    pub(super) source: String,
    pub(super) target: String,
    pub(super) id: String,
    pub(super) required: bool,
    pub(super) env: Option<String>,
    writable: bool,
    sharing: String,
    size: String,
    owner: [Option<String>; 3],
}

impl Mount {
    pub(super) fn parse(value: &Value) -> Result<Self, Fault> {
        let mut mount = Self { at: value.at, fields: Vec::new(), from: None };
        for (text, last) in csv(&value.text).map_err(|why| Fault::invalid(value.at, why))? {
            if let Some((key, name)) = text.split_once('=')
                && key.eq_ignore_ascii_case("from")
            {
                if name.find('$').is_some_and(|dollar| dollar + 1 != name.len()) {
                    return Err(Fault::invalid(
                        value.at,
                        "`from` of a mount takes no variables: name a stage `FROM` them instead",
                    ));
                }
                mount.from = (!name.is_empty()).then(|| Origin::new(name, value, last));
            }
            mount.fields.push(text);
        }
        Ok(mount)
    }

    /// The fields as they stand in the text.
    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(String::as_str)
    }

    /// Expands the values. `Err(name)` inside says which variable is not known.
    pub(super) fn expand(
        &self,
        mut expand: impl FnMut(&str) -> Result<Expansion, WordError>,
    ) -> Result<Result<Expanded, String>, Fault> {
        let mut pairs = Vec::new();
        for field in &self.fields {
            let Some((key, value)) = field.split_once('=') else {
                pairs.push((field.to_lowercase(), None));
                continue;
            };
            let Expansion { text, unknown, .. } = expand(value)
                .map_err(|WordError { kind, message }| Fault { kind, at: self.at, message })?;
            if let Some(name) = unknown {
                return Ok(Err(name));
            }
            pairs.push((key.to_lowercase(), Some(text)));
        }
        self.interpret(pairs).map(Ok)
    }

    fn interpret(&self, pairs: Vec<(String, Option<String>)>) -> Result<Expanded, Fault> {
        let invalid = |message: String| Fault::invalid(self.at, message);
        let unknown = |message: String| Fault::not_understood(self.at, message);
        let flag = |key: &str, value: Option<String>| {
            value
                .map_or(Some(true), |value| arguments::boolean(&value))
                .ok_or_else(|| invalid(format!("`{key}` of a mount is true or false")))
        };
        let mut mount = Expanded::default();
        let mut writable = None;
        for (key, value) in pairs {
            match (key.as_str(), value) {
                ("readonly" | "ro", value) => writable = Some(!flag(&key, value)?),
                ("readwrite" | "rw", value) => writable = Some(flag(&key, value)?),
                ("required", value) if matches!(mount.kind, MountType::Secret | MountType::Ssh) => {
                    mount.required = flag(&key, value)?;
                }
                (_, None) => {
                    return Err(unknown(format!("`{key}` of a mount needs a value")));
                }
                ("type", Some(value)) => {
                    mount.kind = match value.to_lowercase().as_str() {
                        "bind" => MountType::Bind,
                        "cache" => MountType::Cache,
                        "tmpfs" => MountType::Tmpfs,
                        "secret" => MountType::Secret,
                        "ssh" => MountType::Ssh,
                        _ => {
                            return Err(unknown(format!("mounts of type `{value}` are not known")));
                        }
                    }
                }
                ("from", Some(_)) => {}
                ("source" | "src", Some(value)) => mount.source = value,
                ("target" | "dst" | "destination", Some(value)) => mount.target = value,
                ("id", Some(value)) => mount.id = value,
                ("env", Some(value)) => mount.env = Some(value),
                ("sharing", Some(value)) => mount.sharing = value.to_lowercase(),
                ("size", Some(value)) if mount.kind == MountType::Tmpfs => mount.size = value,
                ("mode", Some(value)) => mount.owner[0] = Some(value),
                ("uid", Some(value)) => mount.owner[1] = Some(value),
                ("gid", Some(value)) => mount.owner[2] = Some(value),
                (_, Some(_)) => {
                    return Err(unknown(format!("`{key}` does not belong to this mount")));
                }
            }
        }
        if !matches!(mount.sharing.as_str(), "" | "shared" | "private" | "locked") {
            return Err(unknown(format!("`sharing={}` of a mount is not known", mount.sharing)));
        }
        mount.writable =
            writable.unwrap_or(matches!(mount.kind, MountType::Cache | MountType::Tmpfs));
        self.check(&mount).map_err(|message| invalid(message.to_owned()))?;
        // The id of a secret can be its source, or the name of its target.
        match mount.kind {
            MountType::Secret if !mount.source.is_empty() => mount.id = mount.source.clone(),
            MountType::Secret if mount.id.is_empty() => {
                mount.id = paths::base(&mount.target).to_owned();
            }
            MountType::Ssh if mount.id.is_empty() => mount.id = "default".to_owned(),
            MountType::Cache if mount.id.is_empty() => {
                mount.id = paths::clean(&mount.target);
            }
            _ => {}
        }
        mount.source = paths::in_root(&mount.source);
        Ok(mount)
    }

    fn check(&self, mount: &Expanded) -> Result<(), &'static str> {
        let owned = mount.owner.iter().any(Option::is_some);
        match mount.kind {
            MountType::Bind | MountType::Tmpfs if owned => {
                Err("a bind or tmpfs mount has no mode, uid or gid")
            }
            MountType::Secret if self.from.is_some() => Err("a secret mount has no `from`"),
            MountType::Secret
                if [&mount.source, &mount.target, &mount.id].iter().all(|text| text.is_empty()) =>
            {
                Err("a secret mount needs an id or a target")
            }
            MountType::Secret if !mount.source.is_empty() && !mount.id.is_empty() => {
                Err("a secret mount has an id or a source, not both")
            }
            MountType::Ssh if !mount.source.is_empty() => Err("an ssh mount has no source"),
            kind if kind != MountType::Cache && !mount.sharing.is_empty() => {
                Err("only a cache mount has `sharing`")
            }
            _ => Ok(()),
        }
    }
}

impl Expanded {
    /// The flag in canonical form; `from` is already.
    pub(super) fn canonical(&self, from: Option<&str>) -> String {
        let kind = match self.kind {
            MountType::Bind => "bind",
            MountType::Cache => "cache",
            MountType::Tmpfs => "tmpfs",
            MountType::Secret => "secret",
            MountType::Ssh => "ssh",
        };
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let fields = [
            ("type", Some(kind.to_owned())),
            ("from", from.map(str::to_owned)),
            ("id", text(&self.id)),
            ("source", text(&self.source).filter(|source| source != ".")),
            ("target", text(&self.target)),
            ("rw", Some(self.writable.to_string())),
            ("sharing", text(&self.sharing).filter(|sharing| sharing != "shared")),
            ("required", self.required.then(|| "true".to_owned())),
            ("env", self.env.clone()),
            ("size", text(&self.size)),
            ("mode", self.owner[0].clone()),
            ("uid", self.owner[1].clone()),
            ("gid", self.owner[2].clone()),
        ];
        let fields: Vec<String> = fields
            .into_iter()
            .filter_map(|(key, value)| Some(format!("{key}={}", canonical::word(&value?))))
            .collect();
        format!("--mount={}", fields.join(","))
    }
}

/// The fields of a line of comma-separated values, each with the number of its last character.
fn csv(line: &str) -> Result<Vec<(String, Option<usize>)>, &'static str> {
    let mut fields = Vec::new();
    let mut chars = line.chars().enumerate().peekable();
    loop {
        let mut field = String::new();
        let mut last = None;
        if chars.next_if(|&(_, c)| c == '"').is_some() {
            loop {
                match chars.next() {
                    Some((_, '"')) if chars.next_if(|&(_, c)| c == '"').is_some() => {
                        field.push('"');
                    }
                    Some((_, '"')) => break,
                    Some((number, c)) => {
                        field.push(c);
                        last = Some(number);
                    }
                    None => return Err("a quote in the mount is not closed"),
                }
            }
        } else {
            while let Some((number, c)) = chars.next_if(|&(_, c)| c != ',') {
                if c == '"' {
                    return Err("a quote stands in the middle of a value of the mount");
                }
                field.push(c);
                last = Some(number);
            }
        }
        fields.push((field, last));
        match chars.next() {
            None => return Ok(fields),
            Some((_, ',')) => {}
            Some(_) => return Err("something follows a quote in the mount"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::{
        ErrorKind,
        words::{Empty, Lexer},
    };

    fn expand(text: &str) -> Result<Expanded, Fault> {
        let ends = (1..=text.chars().count()).collect();
        let mount = Mount::parse(&Value { text: text.to_owned(), at: 0, ends })?;
        Ok(mount.expand(|word| Lexer::new('\\').word(word, &Empty))?.unwrap())
    }

    #[test]
    fn a_mount_is_a_read_only_bind_of_the_whole_context_unless_it_says_otherwise() {
        let mount = expand("target=/x").unwrap();
        assert_eq!((mount.kind, mount.source.as_str()), (MountType::Bind, "."));
        assert_eq!(mount.canonical(None), "--mount=type=bind,target=/x,rw=false");
        let mount = expand("Type=Bind,SRC=../a/./b/,dst=/x,rw").unwrap();
        assert_eq!(mount.canonical(None), "--mount=type=bind,source=a/b,target=/x,rw=true");
    }

    #[test]
    fn ids_have_defaults() {
        for (text, id) in [
            ("type=secret,id=npm,target=/x", "npm"),
            ("type=secret,source=npm", "npm"),
            ("type=secret,target=/run/x/npmrc", "npmrc"),
            ("type=ssh", "default"),
            ("type=cache,target=/root/.cache/", "/root/.cache"),
            ("type=cache,target=/x,id=y", "y"),
        ] {
            assert_eq!(expand(text).unwrap().id, id, "{text}");
        }
    }

    #[test]
    fn what_does_not_belong_to_a_mount_is_refused() {
        for text in [
            "type=secret",
            "type=secret,from=x,id=y",
            "type=secret,id=a,source=b",
            "type=ssh,source=x",
            "type=bind,uid=1",
            "type=bind,sharing=shared",
            "from=$x,target=/x",
            "ro=maybe",
            "\"target=/x",
            "target=\"/x\"",
        ] {
            assert_eq!(expand(text).unwrap_err().kind, ErrorKind::Invalid, "{text}");
        }
        for text in ["", "type=nfs", "colour=red", "required", "target", "type=cache,sharing=x"] {
            assert_eq!(expand(text).unwrap_err().kind, ErrorKind::NotUnderstood, "{text}");
        }
    }

    #[test]
    fn the_name_of_what_is_mounted_knows_where_it_stands() {
        for (text, span) in
            [("from=alpine:3,target=/x", 5..13), ("type=bind,\"from=alpine:3\",target=/x", 16..24)]
        {
            let ends = (1..=text.chars().count()).collect();
            let mount = Mount::parse(&Value { text: text.to_owned(), at: 0, ends }).unwrap();
            assert_eq!(mount.from, Some(Origin { name: "alpine:3".into(), span }), "{text}");
        }
    }
}
