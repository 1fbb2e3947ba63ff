//! Git repositories as sources of `ADD`
//! (`moby/buildkit: frontend/dockerfile/dfgitutil/git_ref.go`, `util/gitutil/git_url.go`).

use super::arguments;

/// A git repository at a ref.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitSource {
    /// The repository, without ref, directory and query: what `git ls-remote` takes.
    pub remote: String,
    /// Branch, tag or commit; `None` is `HEAD`.
    pub reference: Option<String>,
    /// The commit that it must be, from `--checksum` or the query.
    pub checksum: Option<String>,
}

impl GitSource {
    /// The commit, if the text alone says it in full.
    #[must_use]
    pub fn commit(&self) -> Option<&str> {
        let full = |id: &&str| {
            matches!(id.len(), 40 | 64)
                && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let checksum = self.checksum.as_deref().filter(full);
        checksum.or_else(|| self.reference.as_deref().filter(full))
    }

    /// Reads a source; `None` if it is no git repository, but a path or a plain URL.
    ///
    /// # Errors
    /// It may be one, but not one that is understood.
    pub(super) fn parse(source: &str) -> Result<Option<Self>, String> {
        let (rest, fragment) = source.split_once('#').unwrap_or((source, ""));
        let (remote, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !is_repository(remote) {
            return Ok(None);
        }
        let mut git = Self { remote: remote.to_owned(), ..Self::default() };
        let mut reference = fragment.split(':').next().unwrap_or_default().to_owned();
        if let Some((_, rest)) = remote.split_once("://") {
            if !is_host(rest.split('/').next().unwrap_or_default()) {
                return Err(format!("`{remote}` has no host that is understood"));
            }
            reference = decoded(&reference)?;
        }
        git.reference = (!reference.is_empty()).then_some(reference);
        git.query(query)?;
        Ok(Some(git))
    }

    fn query(&mut self, query: &str) -> Result<(), String> {
        let (mut tag, mut branch) = (None, None);
        let mut seen = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) =
                (decoded(&key.replace('+', " "))?, decoded(&value.replace('+', " "))?);
            if seen.contains(&key) {
                return Err(format!("the query has `{key}` twice"));
            }
            let optional = ["submodules", "keep-git-dir", "fetch-by-commit"];
            if value.is_empty() && !optional.contains(&key.as_str()) {
                return Err(format!("`{key}` of the query has no value"));
            }
            match key.as_str() {
                "ref" => self.refer(value)?,
                "tag" => tag = Some(value),
                "branch" => branch = Some(value),
                "checksum" | "commit" => self.checksum = Some(value),
                "subdir" => {}
                "mtime" if matches!(value.as_str(), "checkout" | "commit") => {}
                name if optional.contains(&name)
                    && (value.is_empty() || arguments::boolean(&value).is_some()) => {}
                _ => return Err(format!("`{key}={value}` of the query is not known")),
            }
            seen.push(key);
        }
        for (name, prefix) in [(tag, "refs/tags/"), (branch, "refs/heads/")] {
            if let Some(name) = name {
                let full = name.starts_with(prefix);
                self.refer(if full { name } else { format!("{prefix}{name}") })?;
            }
        }
        Ok(())
    }

    fn refer(&mut self, reference: String) -> Result<(), String> {
        match &self.reference {
            Some(other) if *other != reference => {
                Err(format!("it says two refs, `{other}` and `{reference}`"))
            }
            _ => {
                self.reference = Some(reference);
                Ok(())
            }
        }
    }
}

/// Whether a URL without query and fragment is that of a repository.
fn is_repository(remote: &str) -> bool {
    if remote.starts_with("./") || remote.starts_with("../") {
        return false;
    }
    if let Some((scheme, rest)) = remote.split_once("://")
        && !scheme.is_empty()
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
    {
        return match scheme.to_ascii_lowercase().as_str() {
            "git" | "ssh" => true,
            "http" | "https" => rest
                .split_once('/')
                .is_some_and(|(_, path)| decoded(path).is_ok_and(|path| path.ends_with(".git"))),
            _ => false,
        };
    }
    // As scp writes it: user@host:path.
    let name = |text: &str, more: &[u8]| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    remote
        .split_once('@')
        .and_then(|(user, rest)| Some((user, rest.split_once(':')?.0)))
        .is_some_and(|(user, host)| name(user, b"-_") && name(host, b"-."))
}

/// Whether this is the host of a URL, with user and port where there are.
fn is_host(authority: &str) -> bool {
    let host = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = host.split_once(':').unwrap_or((host, ""));
    !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && port.bytes().all(|b| b.is_ascii_digit())
        && authority.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"\\^`{|}".contains(&b))
}

/// The text without percent encoding.
fn decoded(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is not encoded as a URL is");
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let mut decoded = [byte];
        if byte == b'%' {
            let (digits, tail) = tail.split_at_checked(2).ok_or_else(wrong)?;
            hex::decode_to_slice(digits, &mut decoded).map_err(|_| wrong())?;
            rest = tail;
        }
        bytes.extend(decoded);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_paths_and_urls() {
        for (source, remote, reference) in [
            ("https://e.example/a/b.git", "https://e.example/a/b.git", None),
            ("https://e.example/b.git#v1:dir/x", "https://e.example/b.git", Some("v1")),
            ("http://e.example/b.git?ref=v1&subdir=x", "http://e.example/b.git", Some("v1")),
            ("git@e.example:a/b.git#main", "git@e.example:a/b.git", Some("main")),
            ("git@e.example:a/b?tag=v1", "git@e.example:a/b", Some("refs/tags/v1")),
            ("ssh://git@e.example/x#:dir", "ssh://git@e.example/x", None),
            ("git://e.example/x?branch=refs/heads/a", "git://e.example/x", Some("refs/heads/a")),
            ("https://e.example/b.git?submodules=false#v1", "https://e.example/b.git", Some("v1")),
        ] {
            let git = GitSource::parse(source).unwrap().unwrap();
            assert_eq!(
                (git.remote.as_str(), git.reference.as_deref()),
                (remote, reference),
                "{source}"
            );
        }
        for source in [
            "a/b.git",
            "./git@e.example:x",
            "github.com/a/b",
            "github.com/a/b.git",
            "https://e.example/b.git/x",
            "https://b.git",
            "https://e.example/x?y=b.git",
            "s3://e.example/b.git",
            "a b@c:d",
            "",
        ] {
            assert_eq!(GitSource::parse(source), Ok(None), "{source}");
        }
    }

    #[test]
    fn a_query_that_is_wrong_is_an_error() {
        for query in [
            "ref=a#b",
            "ref",
            "colour=red",
            "ref=a&ref=a",
            "tag=a&branch=b",
            "tag=",
            "mtime=now",
            "submodules=2",
            "ref=%zz",
        ] {
            assert!(GitSource::parse(&format!("git://e.example/x?{query}")).is_err(), "{query}");
        }
    }

    #[test]
    fn only_a_full_commit_pins() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let commit =
            |source: &str| GitSource::parse(source).unwrap().unwrap().commit().map(str::to_owned);
        assert_eq!(commit(&format!("git://e.example/x#{id}")).as_deref(), Some(id));
        assert_eq!(commit(&format!("git://e.example/x?ref=v1&checksum={id}")).as_deref(), Some(id));
        assert_eq!(commit("git://e.example/x#0123456"), None);
        assert_eq!(commit("git://e.example/x"), None);
    }
}
