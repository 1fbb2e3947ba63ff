//! Places for an engine's layer cache, as `--cache-from` and `--cache-to` name them.
//!
//! Knows their grammar (buildx `util/buildflags/cache.go`) and which attributes of a type matter here;
//! must not know engines, nor whether there is anything at a place.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use crate::{
    platform::Platform,
    registry::{Digest, Reference},
};

/// How a list is written, for errors.
const HOW: &str = "write it as type=registry,ref=IMAGE";

/// A place that a build takes layers from, or leaves them at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerCache {
    text: String,
    place: Place,
    attributes: BTreeMap<String, String>,
    is_wanted: bool,
}

/// Where a cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// At a tag of a repository: an image that carries its cache, or a cache by itself.
    Registry,
    /// In the image that is built.
    Inline,
    /// In a directory of this machine.
    Local(LocalPlace),
}

/// A directory that holds caches: an OCI image layout, with a tag for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPlace {
    /// The directory.
    pub directory: PathBuf,
    /// The name of the cache in it.
    pub tag: String,
    /// The very cache to take, whatever is tagged.
    pub digest: Option<Digest>,
    /// Whether blobs that no cache needs any more are removed once a new one is written.
    pub reset: bool,
}

/// What is no place for a cache, and how one is written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidLayerCache(String);

/// Which way a cache goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    From,
    To,
}

impl LayerCache {
    /// Reads a place to take a cache from: a reference, `type=registry,ref=IMAGE`, or
    /// `type=local,src=DIRECTORY`.
    ///
    /// # Errors
    /// When the text is none of them.
    pub fn source(text: &str) -> Result<Self, InvalidLayerCache> {
        Self::parse(text, Way::From)
    }

    /// Reads a place to leave a cache at: `type=inline`, a reference, `type=registry,ref=IMAGE`, or
    /// `type=local,dest=DIRECTORY`.
    ///
    /// # Errors
    /// When the text is none of them.
    pub fn destination(text: &str) -> Result<Self, InvalidLayerCache> {
        Self::parse(text, Way::To)
    }

    fn parse(text: &str, way: Way) -> Result<Self, InvalidLayerCache> {
        let wrong = |why: String| InvalidLayerCache(why);
        let image = |name: &str| {
            let read = name.parse::<Reference>();
            read.map_err(|error| wrong(error.to_string())).map(|_| Place::Registry)
        };
        if !text.contains('=') {
            let attributes = [("ref".to_owned(), text.to_owned())].into();
            return Ok(Self {
                text: text.to_owned(),
                place: image(text)?,
                attributes,
                is_wanted: true,
            });
        }
        let mut attributes = BTreeMap::new();
        for pair in text.split(',') {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| wrong(format!("`{pair}` is no NAME=VALUE")))?;
            attributes.insert(name.trim().to_ascii_lowercase(), value.to_owned());
        }
        let attribute =
            |name: &str| attributes.get(name).filter(|value| !value.is_empty()).map(String::as_str);
        let place = match (attribute("type"), way) {
            (None, _) => return Err(wrong(format!("its type is missing; {HOW}"))),
            (Some("registry"), _) => {
                image(attribute("ref").ok_or_else(|| wrong(format!("its ref is missing; {HOW}")))?)?
            }
            (Some("inline"), Way::To) => Place::Inline,
            (Some("local"), _) => {
                let name = if way == Way::From { "src" } else { "dest" };
                let directory = attribute(name).ok_or_else(|| {
                    wrong(format!(
                        "its directory is missing; write it as type=local,{name}=DIRECTORY"
                    ))
                })?;
                let digest = attribute("digest").map(str::parse).transpose();
                Place::Local(LocalPlace {
                    directory: directory.into(),
                    tag: attribute("tag").unwrap_or("latest").to_owned(),
                    digest: digest.map_err(|error| wrong(format!("{error}")))?,
                    reset: is_true(attribute("reset")),
                })
            }
            (Some(kind), way) => {
                let known =
                    if way == Way::From { "registry, local" } else { "registry, local, inline" };
                return Err(wrong(format!(
                    "caches of the type `{kind}` are not supported: use {known}"
                )));
            }
        };
        attributes.remove("type");
        Ok(Self { text: text.to_owned(), place, attributes, is_wanted: true })
    }

    /// The places for the cache of one of several platforms that are built: each has its own, for one
    /// would replace the other. Where none was left, the place may still have the cache of somebody who
    /// built for that platform alone, or for all in one.
    #[must_use]
    pub fn sources_of(&self, platform: &Platform) -> Vec<Self> {
        match self.own(platform) {
            None => vec![self.clone()],
            Some(own) => vec![own, Self { is_wanted: false, ..self.clone() }],
        }
    }

    /// The place for the cache of one of several platforms that are built.
    #[must_use]
    pub fn destination_of(&self, platform: &Platform) -> Self {
        self.own(platform).unwrap_or_else(|| self.clone())
    }

    /// The place with the platform in its tag, if it is one that can have several caches. An image by
    /// itself is for all of its platforms.
    fn own(&self, platform: &Platform) -> Option<Self> {
        let platform = platform.in_a_tag();
        let mut own = self.clone();
        match &mut own.place {
            Place::Registry if self.text.contains('=') => {
                let reference: Reference = self.reference()?.parse().ok()?;
                let reference = Some(reference).filter(|name| name.digest.is_none())?.or_latest();
                let tag = format!("{}-{platform}", reference.tag.as_ref()?).parse().ok()?;
                let name = reference.repository.tagged(tag).to_string();
                own.attributes.insert("ref".to_owned(), name);
            }
            Place::Local(place) if place.digest.is_none() => {
                place.tag = format!("{}-{platform}", place.tag);
                own.attributes.insert("tag".to_owned(), place.tag.clone());
            }
            _ => return None,
        }
        own.text = format!("{} ({platform})", self.text);
        Some(own)
    }

    /// Whether something is to be said where there is no cache at the place.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// Its type, as engines call it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.place {
            Place::Registry => "registry",
            Place::Inline => "inline",
            Place::Local(_) => "local",
        }
    }

    /// All that was said of it but its type.
    #[must_use]
    pub fn attributes(&self) -> &BTreeMap<String, String> {
        &self.attributes
    }

    /// Whether it goes into the image itself.
    #[must_use]
    pub fn is_inline(&self) -> bool {
        self.place == Place::Inline
    }

    /// The image that it is in, where nothing else was said of it.
    #[must_use]
    pub fn bare_reference(&self) -> Option<&str> {
        self.reference().filter(|_| self.attributes.len() == 1)
    }

    /// The image that it is in, if it is in a registry.
    #[must_use]
    pub fn reference(&self) -> Option<&str> {
        let name = self.attributes.get("ref").filter(|_| self.place == Place::Registry);
        name.map(String::as_str)
    }

    /// The directory that it is in, if it is in one.
    #[must_use]
    pub fn local(&self) -> Option<&LocalPlace> {
        match &self.place {
            Place::Local(place) => Some(place),
            _ => None,
        }
    }
}

/// As it was written.
impl fmt::Display for LayerCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What Go's `strconv.ParseBool` takes for true, which is how engines read such values.
#[must_use]
pub fn is_true(text: Option<&str>) -> bool {
    text.is_some_and(|on| ["1", "t", "T", "true", "TRUE", "True"].contains(&on))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_a_reference_or_a_list() {
        for text in
            ["host/name:tag", "type=registry,ref=host/name:tag", "Type=registry,Ref=host/name:tag"]
        {
            let cache = LayerCache::source(text).unwrap();
            assert_eq!(cache.bare_reference(), Some("host/name:tag"));
            assert_eq!((cache.kind(), &*cache.attributes()["ref"]), ("registry", "host/name:tag"));
            assert_eq!(cache.to_string(), text);
        }
        let cache = LayerCache::destination("type=registry,ref=a/b,mode=max").unwrap();
        assert_eq!((cache.attributes()["mode"].as_str(), cache.bare_reference()), ("max", None));
        assert!(LayerCache::destination("type=inline").unwrap().is_inline());
        // A name is no type.
        assert!(!LayerCache::destination("type=registry,ref=a/inline").unwrap().is_inline());
    }

    #[test]
    fn a_directory_is_a_place_too() {
        let place = |cache: LayerCache| cache.local().cloned().unwrap();
        let from = place(LayerCache::source("type=local,src=/c").unwrap());
        assert_eq!((from.directory.to_str(), from.tag.as_str()), (Some("/c"), "latest"));
        let to = place(LayerCache::destination("type=local,dest=c,tag=main,reset=true").unwrap());
        assert_eq!((to.directory.to_str(), to.tag.as_str(), to.reset), (Some("c"), "main", true));
        let digest = Digest::of(b"cache");
        let from = place(LayerCache::source(&format!("type=local,src=c,digest={digest}")).unwrap());
        assert_eq!(from.digest, Some(digest));
    }

    #[test]
    fn several_platforms_have_a_cache_each() {
        let platform = "linux/arm64".parse().unwrap();
        let to = |text: &str| LayerCache::destination(text).unwrap().destination_of(&platform);
        let kept = to("type=registry,ref=r.example/c,mode=max");
        assert_eq!(kept.attributes()["ref"], "r.example/c:latest-linux-arm64");
        assert_eq!(kept.attributes()["mode"], "max");
        assert_eq!(to("type=local,dest=c").local().unwrap().tag, "latest-linux-arm64");
        for text in ["type=inline", "r.example/app:1"] {
            assert_eq!(to(text).to_string(), text);
        }
        let from = |text: &str| {
            let sources = LayerCache::source(text).unwrap().sources_of(&platform);
            let shown = |cache: &LayerCache| (cache.attributes()["ref"].clone(), cache.is_wanted());
            sources.iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(
            from("type=registry,ref=r.example/c:1"),
            [("r.example/c:1-linux-arm64".to_owned(), true), ("r.example/c:1".to_owned(), false)]
        );
        assert_eq!(from("r.example/app:1"), [("r.example/app:1".to_owned(), true)]);
        let digest = format!("type=registry,ref=r.example/c@{}", Digest::of(b"c"));
        assert_eq!(from(&digest).len(), 1);
    }

    #[test]
    fn what_is_no_place_says_what_is() {
        for (text, expected) in [
            ("", "reference"),
            ("ref=a/b", "its type is missing"),
            ("type=registry", "its ref is missing"),
            ("type=registry,ref", "`ref` is no NAME=VALUE"),
            ("type=registry,ref=A B", "reference"),
            ("type=gha", "caches of the type `gha` are not supported: use registry, local, inline"),
            ("type=local,src=x", "write it as type=local,dest=DIRECTORY"),
            ("type=local,dest=", "its directory is missing"),
            ("type=local,dest=x,digest=1", "is not a digest"),
        ] {
            let error = LayerCache::destination(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = LayerCache::source("type=inline").unwrap_err().to_string();
        assert!(error.ends_with("use registry, local"), "{error}");
    }
}
