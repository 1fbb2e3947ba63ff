//! Which frontend reads the Dockerfile: the builtin one, or the image that `# syntax=` names
//! (`moby/buildkit: frontend/dockerfile/parser/directives.go`, `builder/build.go`).

use std::{collections::BTreeMap, ops::Range};

use super::{error::line_of, images, lex};

/// The image that a build asks to read its Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// Its name, as written.
    pub image: String,
    /// Where the name stands in the text; `None` if the `BUILDKIT_SYNTAX` argument gave it, or if it
    /// cannot be changed there.
    pub span: Option<Range<usize>>,
    /// The line it stands on, from 1; 0 for the `BUILDKIT_SYNTAX` argument.
    pub line: usize,
    /// Whether this program knows the language that it reads: it is `docker/dockerfile` of Docker
    /// Hub with a tag of version 1.
    pub known: bool,
}

/// The image that reads this text as a Dockerfile, if the engine's own frontend does not: the
/// `BUILDKIT_SYNTAX` build argument, or what the text says in `# syntax=`, `// syntax=` or a JSON
/// object.
#[must_use]
pub fn frontend(text: &[u8], build_args: &BTreeMap<String, String>) -> Option<Frontend> {
    if let Some(argument) = build_args.get("BUILDKIT_SYNTAX") {
        let image = argument.trim().split(' ').next().unwrap_or_default();
        return Some(Frontend::new(image, None, 0));
    }
    let mut body = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    if body.starts_with(b"#!") {
        let shebang = body.iter().position(|&b| b == b'\n').map_or(body.len(), |end| end + 1);
        body = &body[shebang..];
    }
    let start = text.len() - body.len();
    for comment in ["#", "//"] {
        if let Some(span) = find(body, comment) {
            let span = span.start + start..span.end + start;
            let image = String::from_utf8_lossy(&text[span.clone()]).into_owned();
            let line = line_of(text, span.start);
            return Some(Frontend::new(&image, Some(span), line));
        }
    }
    let object: serde_json::Map<_, _> = serde_json::from_slice(body).ok()?;
    let image = object.get("syntax")?.as_str()?;
    Some(Frontend::new(image, None, line_of(text, start)))
}

impl Frontend {
    fn new(image: &str, span: Option<Range<usize>>, line: usize) -> Self {
        Self { image: image.to_owned(), span, line, known: is_known(image) }
    }

    /// The minor version of `docker/dockerfile:1` that its name says: 4 for `docker/dockerfile:1.4.3`.
    /// `None` if it says none, as `docker/dockerfile:1` does, which is the newest.
    #[must_use]
    pub fn minor(&self) -> Option<u32> {
        let name = images::familiar(&self.image);
        let tag = name.strip_prefix("docker/dockerfile:1.")?;
        tag.split(['.', '-', '@']).next()?.parse().ok()
    }
}

/// Where the name stands in the directives at the beginning of a text.
fn find(text: &[u8], comment: &str) -> Option<Range<usize>> {
    let mut at = 0;
    for line in text.split_inclusive(|&b| b == b'\n') {
        let content = line.trim_ascii_end();
        let (name, value) = lex::directive(content, comment)?;
        if name == "syntax" {
            let start = at + content.len() - value.len();
            let length = value.iter().position(|&b| b == b' ').unwrap_or(value.len());
            return Some(start..start + length);
        }
        at += line.len();
    }
    None
}

fn is_known(image: &str) -> bool {
    let name = images::familiar(image);
    let Some(tag) = name.strip_prefix("docker/dockerfile:") else { return false };
    let tag = tag.split('@').next().unwrap_or_default();
    tag == "1" || tag.starts_with("1.") || tag.starts_with("1-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(text: &str) -> Option<Frontend> {
        frontend(text.as_bytes(), &BTreeMap::new())
    }

    #[test]
    fn a_name_may_say_the_minor_version() {
        for (image, minor) in [
            ("docker/dockerfile:1", None),
            ("docker/dockerfile:1-labs", None),
            ("docker/dockerfile:1.4", Some(4)),
            ("docker.io/docker/dockerfile:1.10.0-labs@sha256:0", Some(10)),
            ("other/dockerfile:1.4", None),
        ] {
            let frontend = detect(&format!("# syntax={image}\nFROM x")).unwrap();
            assert_eq!(frontend.minor(), minor, "{image}");
        }
    }

    #[test]
    fn the_syntax_directive_is_found_where_buildkit_finds_it() {
        for (text, image, line) in [
            ("# syntax=docker/dockerfile:1\nFROM x", "docker/dockerfile:1", 1),
            ("#syntax = a.b/c:2 debug\r\n", "a.b/c:2", 1),
            ("\u{feff}# escape=`\n# Syntax=x\n", "x", 2),
            ("#!/usr/bin/env x\n# syntax=x", "x", 2),
            ("// syntax=x\nwhatever", "x", 1),
        ] {
            let found = detect(text).unwrap();
            assert_eq!((found.image.as_str(), found.line), (image, line), "{text}");
            assert_eq!(&text[found.span.unwrap()], image, "{text}");
        }
        let found = detect(r#"{"syntax": "x"}"#).unwrap();
        assert_eq!((found.image.as_str(), found.span), ("x", None));
        for text in
            ["", "FROM x\n# syntax=y", "# comment\n# syntax=y", " # syntax=y", "\n# syntax=y"]
        {
            assert_eq!(detect(text), None, "{text}");
        }
    }

    #[test]
    fn the_build_argument_comes_first() {
        let arguments = BTreeMap::from([("BUILDKIT_SYNTAX".to_owned(), "x:1 y".to_owned())]);
        let found = frontend(b"# syntax=docker/dockerfile:1", &arguments).unwrap();
        assert_eq!((found.image.as_str(), found.line, found.span), ("x:1", 0, None));
    }

    #[test]
    fn only_version_1_of_dockers_own_is_known() {
        for image in [
            "docker/dockerfile:1",
            "docker.io/docker/dockerfile:1.7-labs",
            "docker/dockerfile:1.4@sha256:00",
            "docker/dockerfile:1-labs",
        ] {
            assert!(is_known(image), "{image}");
        }
        for image in [
            "docker/dockerfile",
            "docker/dockerfile:latest",
            "docker/dockerfile:2",
            "docker/dockerfile:10",
            "docker/dockerfile-upstream:1",
            "mirror.example/docker/dockerfile:1",
            "localhost/docker/dockerfile:1",
            "",
        ] {
            assert!(!is_known(image), "{image}");
        }
    }
}
