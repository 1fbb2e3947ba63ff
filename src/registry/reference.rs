//! References: `host/path:tag@digest`, and the short forms that people write.
//!
//! Knows the grammar of distribution/reference (`reference.go`, `normalize.go`) and Docker's
//! familiar names (`ubuntu` is `docker.io/library/ubuntu`); must not know what is stored there.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::digest::{Digest, InvalidDigest};

/// The host that a reference without one means.
const DOCKER_HUB: &str = "docker.io";
/// The namespace of Docker Hub's official images.
const OFFICIAL: &str = "library/";
/// Longest path of a repository (distribution/reference `RepositoryNameTotalLengthMax`).
const LONGEST_PATH: usize = 255;
/// Longest tag (distribution specification, "Pulling manifests").
const LONGEST_TAG: usize = 128;

/// A repository: a registry's host and a path on it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    host: String,
    path: String,
}

impl Repository {
    /// The host with its port, if it has one: `docker.io`, `localhost:5000`. It keeps its case,
    /// for an upper-case letter may be all that tells `Host/app` from `host/app` on Docker Hub.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What comes after the host: `library/ubuntu`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The name as people write it: `ubuntu` for `docker.io/library/ubuntu`.
    #[must_use]
    pub fn familiar(&self) -> String {
        if self.host != DOCKER_HUB {
            return self.to_string();
        }
        match self.path.split_once('/') {
            Some(("library", name)) if !name.contains('/') => name.to_owned(),
            // What would read as a host needs the host before it.
            Some((first, _)) if looks_like_host(first) => self.to_string(),
            _ => self.path.clone(),
        }
    }

    /// The reference of `tag` in this repository.
    #[must_use]
    pub fn tagged(&self, tag: Tag) -> Reference {
        Reference { repository: self.clone(), tag: Some(tag), digest: None }
    }

    /// The reference of `digest` in this repository.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Reference {
        Reference { repository: self.clone(), tag: None, digest: Some(digest) }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Repository {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let reference: Reference = text.parse()?;
        match (&reference.tag, &reference.digest) {
            (None, None) => Ok(reference.repository),
            _ => Err(InvalidReference::new(text, Fault::NotARepository)),
        }
    }
}

/// A tag: a name in a repository that can be moved from one manifest to another.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// The tag that a reference with neither tag nor digest means.
    #[must_use]
    pub fn latest() -> Self {
        Self("latest".to_owned())
    }

    /// The text of the tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text was not a tag.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a tag: write up to 128 letters, digits, `_`, `.` and `-`, not starting with `.` or `-`, for example v1.2"
)]
pub struct InvalidTag(String);

impl FromStr for Tag {
    type Err = InvalidTag;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let fits = (1..=LONGEST_TAG).contains(&text.len())
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidTag(excerpt(text))) }
    }
}

/// What names a manifest inside a repository.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum TagOrDigest {
    /// A name that can move.
    Tag(Tag),
    /// The content itself.
    Digest(Digest),
}

impl fmt::Display for TagOrDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl From<Tag> for TagOrDigest {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for TagOrDigest {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

/// The name of an image: a repository and what to take from it.
///
/// Displays in full (`docker.io/library/ubuntu:16.04`); [`Reference::familiar`] is the short form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// Where.
    pub repository: Repository,
    /// The tag, if one was written.
    pub tag: Option<Tag>,
    /// The digest, if one was written. It decides when there is a tag too.
    pub digest: Option<Digest>,
}

impl Reference {
    /// The registry's host.
    #[must_use]
    pub fn host(&self) -> &str {
        self.repository.host()
    }

    /// What to ask the registry for: the digest, else the tag, else `latest`.
    #[must_use]
    pub fn target(&self) -> TagOrDigest {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => TagOrDigest::Digest(digest.clone()),
            (None, Some(tag)) => TagOrDigest::Tag(tag.clone()),
            (None, None) => TagOrDigest::Tag(Tag::latest()),
        }
    }

    /// The same reference, with the tag `latest` where it had neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(Tag::latest());
        }
        self
    }

    /// The same reference, pinned to `digest`; the tag stays, for people.
    #[must_use]
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// The reference as people write it: `ubuntu:16.04` for `docker.io/library/ubuntu:16.04`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.written(&self.repository.familiar())
    }

    fn written(&self, repository: &str) -> String {
        let mut text = repository.to_owned();
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag.as_str());
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(&self.repository.to_string()))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text was not a reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not an image reference: {fault}")]
pub struct InvalidReference {
    text: String,
    fault: Fault,
}

impl InvalidReference {
    fn new(text: &str, fault: Fault) -> Self {
        Self { text: excerpt(text), fault }
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum Fault {
    #[error("it is empty; write for example registry.example.com/team/app:1.0")]
    Empty,
    #[error("leave out `{0}`: write for example registry.example.com/team/app:1.0")]
    Scheme(&'static str),
    #[error("`{0}` is not a host; write for example registry.example.com or localhost:5000")]
    Host(String),
    #[error("there is no repository after the host; write for example {0}/team/app:1.0")]
    NoPath(String),
    #[error("a repository is written in lower case: `{0}`")]
    UpperCase(String),
    #[error(
        "`{0}` cannot be part of a repository: write lower-case letters and digits, separated by `.`, `_`, `__` or `-`, for example team/my-app"
    )]
    Component(String),
    #[error("the repository is longer than {LONGEST_PATH} characters")]
    TooLong,
    #[error("64 hexadecimal digits alone are an image's identifier, which no registry knows")]
    Identifier,
    #[error("it has a tag or a digest where only a repository is meant, as in localhost:5000/app")]
    NotARepository,
    #[error(transparent)]
    Tag(#[from] InvalidTag),
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|fault| InvalidReference::new(text, fault))
    }
}

fn parse(text: &str) -> Result<Reference, Fault> {
    if text.trim().is_empty() {
        return Err(Fault::Empty);
    }
    for scheme in ["https://", "http://", "docker://"] {
        if text.starts_with(scheme) {
            return Err(Fault::Scheme(scheme));
        }
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
        None => (text, None),
    };
    // A colon after the last slash starts a tag; one before it belongs to the host's port.
    let name_starts = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[name_starts..].find(':') {
        Some(colon) => {
            let (name, tag) = rest.split_at(name_starts + colon);
            (name, Some(tag[1..].parse::<Tag>()?))
        }
        None => (rest, None),
    };
    Ok(Reference { repository: repository(name)?, tag, digest })
}

/// Splits off the host the way Docker does (distribution/reference `splitDockerDomain`): the first
/// component is a host if it could not be one of a path on Docker Hub.
fn repository(name: &str) -> Result<Repository, Fault> {
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if looks_like_host(host) => (host, path.to_owned()),
        Some(_) => (DOCKER_HUB, name.to_owned()),
        None if is_identifier(name) => return Err(Fault::Identifier),
        None => (DOCKER_HUB, name.to_owned()),
    };
    if !is_host(host) {
        return Err(Fault::Host(excerpt(host)));
    }
    let host = if host == "index.docker.io" { DOCKER_HUB } else { host }.to_owned();
    if path.is_empty() {
        return Err(Fault::NoPath(host));
    }
    let path =
        if host == DOCKER_HUB && !path.contains('/') { OFFICIAL.to_owned() + &path } else { path };
    if path.len() > LONGEST_PATH {
        return Err(Fault::TooLong);
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(Fault::UpperCase(path.to_ascii_lowercase()));
    }
    match path.split('/').find(|component| !is_path_component(component)) {
        Some(component) => Err(Fault::Component(excerpt(component))),
        None => Ok(Repository { host, path }),
    }
}

/// Whether the first component of a name is a host, and no namespace of Docker Hub.
fn looks_like_host(first: &str) -> bool {
    let upper = first.bytes().any(|b| b.is_ascii_uppercase());
    upper || first == "localhost" || first.contains(['.', ':'])
}

/// `domain` of the grammar: a name, an address or a bracketed IPv6 address, and perhaps a port.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let valid = address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            if address.is_empty() || !valid {
                return false;
            }
            (None, rest.strip_prefix(':').or(if rest.is_empty() { None } else { Some("") }))
        }
        None => match text.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(text), None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.is_none_or(|name| name.split('.').all(label))
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|_| !port.starts_with('+')))
}

/// `path-component` of the grammar: words of letters and digits with one separator between them,
/// where a separator is `.`, `_`, `__` or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let separator = |s: &str| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-');
    let ends = |b: Option<u8>| b.is_some_and(word);
    ends(text.bytes().next())
        && ends(text.bytes().next_back())
        && text
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|between| between.is_empty() || separator(between))
}

fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
}

/// The part of a wrong text that is worth repeating in an error.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 160;
    let mut excerpt: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        excerpt.push('…');
    }
    excerpt
}

macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

as_text!(Repository, Tag, Reference);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn short_names_mean_docker_hub() {
        for (written, full, familiar) in [
            ("ubuntu", "docker.io/library/ubuntu", "ubuntu"),
            ("ubuntu:16.04", "docker.io/library/ubuntu:16.04", "ubuntu:16.04"),
            ("team/app", "docker.io/team/app", "team/app"),
            ("docker.io/ubuntu", "docker.io/library/ubuntu", "ubuntu"),
            ("index.docker.io/library/ubuntu", "docker.io/library/ubuntu", "ubuntu"),
            ("docker.io/a.b/c", "docker.io/a.b/c", "docker.io/a.b/c"),
            ("localhost/app", "localhost/app", "localhost/app"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("host/app", "docker.io/host/app", "host/app"),
            ("Host/app", "Host/app", "Host/app"),
            ("a.b:1/c/d_e__f---g.h", "a.b:1/c/d_e__f---g.h", "a.b:1/c/d_e__f---g.h"),
            ("[fd00::2]:5000/app", "[fd00::2]:5000/app", "[fd00::2]:5000/app"),
            ("[::1]/app:x", "[::1]/app:x", "[::1]/app:x"),
        ] {
            let reference: Reference = written.parse().unwrap();
            assert_eq!(reference.to_string(), full, "{written}");
            assert_eq!(reference.familiar(), familiar, "{written}");
        }
    }

    #[test]
    fn a_digest_decides_and_the_tag_stays() {
        let text = format!("r.example/app:v1@sha256:{HEX}");
        let reference: Reference = text.parse().unwrap();
        assert_eq!(reference.to_string(), text);
        assert_eq!(reference.target().to_string(), format!("sha256:{HEX}"));
        let bare: Reference = "r.example/app".parse().unwrap();
        assert_eq!(bare.target().to_string(), "latest");
        assert_eq!(bare.or_latest().to_string(), "r.example/app:latest");
    }

    #[test]
    fn what_is_wrong_is_said_with_an_example() {
        for (text, says) in [
            ("", "it is empty"),
            ("https://r.example/app", "leave out `https://`"),
            ("r.example/App", "lower case: `app`"),
            ("r.example/", "no repository after the host"),
            ("r.example//app", "cannot be part of a repository"),
            ("r.example/a..b", "`a..b` cannot"),
            ("r.example/a___b", "`a___b` cannot"),
            ("r.example/-a", "`-a` cannot"),
            ("r.example/app:", "`` is not a tag"),
            ("r.example/app:.x", "`.x` is not a tag"),
            ("r.example/app@sha256:12", "`sha256:12` is not a digest"),
            ("-r.example/app", "is not a host"),
            ("r.example:http/app", "is not a host"),
            ("r.example:70000/app", "is not a host"),
            ("[::1/app", "is not a host"),
            ("[::1]x/app", "is not a host"),
            ("a b", "`a b` cannot"),
            (HEX, "no registry knows"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        assert!("r.example/app:v1".parse::<Repository>().is_err());
        assert!(format!("r.example/{}", "a".repeat(256)).parse::<Reference>().is_err());
        assert!("a".repeat(129).parse::<Tag>().is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_parses_reads_back(text in "[a-zA-Z0-9./:@_\\[\\]-]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference.clone()));
                prop_assert_eq!(reference.familiar().parse::<Reference>(), Ok(reference));
            }
        }
    }
}
