//! What a case needs beside its files: a registry with its images, a server with what it fetches.

use smartbuild_test_rig::{Front, Registry, Rule, sha256};

use super::case::{Case, Remote, Validator};

/// The servers of all cases.
#[derive(Debug)]
pub(super) struct Servers {
    registry: Registry,
    site: Front,
}

/// Where they are: what `@registry@` and `@site@` stand for.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    pub(super) registry: String,
    pub(super) site: String,
}

impl Hosts {
    /// The text with the hosts in their places.
    pub(super) fn place(&self, text: &str) -> String {
        text.replace("@registry@", &self.registry).replace("@site@", &self.site)
    }
}

impl Servers {
    pub(super) fn start() -> Self {
        Self { registry: Registry::open(), site: Front::alone() }
    }

    pub(super) fn hosts(&self) -> Hosts {
        Hosts { registry: self.registry.host().to_owned(), site: self.site.host() }
    }

    /// Has them hold what a case needs, as far as another case has not brought it already.
    pub(super) fn publish(&self, case: &Case, known: Option<&Case>) {
        for (repository, image) in &case.images {
            if known.and_then(|known| known.images.get(repository)) != Some(image) {
                image.push(&self.registry, repository);
            }
        }
        for (path, remote) in &case.remotes {
            if known.and_then(|known| known.remotes.get(path)) != Some(remote) {
                self.site.on("*", &format!("/{path}"), answer(remote));
            }
        }
    }

    /// A file for whoever wants to know whether files can be fetched: its address and its digest.
    pub(super) fn probe(&self) -> (String, String) {
        self.site.on("*", "/probe", Rule::status(200).body("probe"));
        (format!("http://{}/probe", self.site.host()), sha256(b"probe"))
    }
}

fn answer(remote: &Remote) -> Rule {
    let answer = Rule::status(200).body(remote.content.as_str());
    match remote.validator {
        Validator::Tag => {
            answer.header("etag", &format!("\"{}\"", sha256(remote.content.as_bytes())))
        }
        Validator::Date => {
            let date = format!("Mon, 23 Nov 2026 10:00:{:02} GMT", remote.version % 60);
            answer.header("last-modified", &date)
        }
        Validator::None => answer,
    }
}
