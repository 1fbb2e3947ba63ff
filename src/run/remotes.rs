//! What pins the things that a build fetches from elsewhere: checksums, `ETag`s, their content, commits.
//!
//! What nothing pins makes the build not skippable, unless `--refresh` bounds how long it may be old.
//! A server that does not answer makes it not skippable all the same: if the period stood in for what
//! is not known just now, a key would come back with the image of what was there before.

use std::{error::Error, time::Duration};

use futures_util::future::join_all;
use http::{HeaderMap, StatusCode, header};
use sha2::{Digest as _, Sha256};

use super::World;
use crate::{
    dockerfile::{self, GitSource, RemoteKind},
    inputs::Remote,
    settings::Request,
};

/// How long a server or `git` may take to say what it has.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the content of a URL may take to come.
const DOWNLOAD: Duration = Duration::from_secs(300);
/// Content that is longer than this is not fetched for the key, in bytes.
const LARGEST: u64 = 256 << 20;

/// Why something is not pinned.
#[derive(Debug, PartialEq, Eq)]
enum Unpinned {
    /// It is so on every day, as far as we can see.
    Always(String),
    /// Who would know could not be asked, this time.
    Unknown(String),
}

/// Finds what pins each remote, all at once; adds a reason for each that nothing pins.
pub(super) async fn identify(
    remotes: &[dockerfile::Remote],
    request: &Request,
    world: &World,
    reasons: &mut Vec<String>,
) -> Vec<Remote> {
    let found = join_all(remotes.iter().map(|remote| identity(remote, world))).await;
    let mut inputs = Vec::with_capacity(remotes.len());
    for (remote, found) in remotes.iter().zip(found) {
        let identity = match found {
            Ok(identity) => identity,
            // The period is in the key: the image is at most that old.
            Err(Unpinned::Always(_)) if request.refresh.is_some() => "as of the period".to_owned(),
            Err(Unpinned::Always(why) | Unpinned::Unknown(why)) => {
                let file = request.dockerfile_name();
                reasons.push(format!("{file} line {}: ADD {}: {why}", remote.line, remote.source));
                continue;
            }
        };
        inputs.push(Remote { url: remote.source.clone(), identity });
    }
    inputs.sort();
    inputs
}

async fn identity(remote: &dockerfile::Remote, world: &World) -> Result<String, Unpinned> {
    match &remote.kind {
        RemoteKind::Http { checksum: Some(checksum) } => Ok(format!("checksum {checksum}")),
        RemoteKind::Http { checksum: None } => content(&remote.source, world).await,
        RemoteKind::Git(source) => match source.commit() {
            Some(commit) => Ok(format!("commit {commit}")),
            None => commit(source).await,
        },
    }
}

/// What the server says of the content, or the content itself. An `ETag`, be it a weak one, is what
/// BuildKit goes by, too; without one it fetches every time (`moby/buildkit: source/http`). A date and a
/// length tell nothing of a file that was written twice in a second.
async fn content(url: &str, world: &World) -> Result<String, Unpinned> {
    let client = world.http().map_err(|error| unanswered(&error))?;
    let head = client.head(url).timeout(PATIENCE).send().await;
    if let Ok(answer) = head
        && answer.status().is_success()
        && let Some(tag) = tag(answer.headers())
    {
        return Ok(tag);
    }
    // Not every server knows HEAD.
    match fetch(&client, url).await {
        Err(Unpinned::Unknown(_)) => fetch(&client, url).await,
        known => known,
    }
}

/// What is learned from the content as it comes.
async fn fetch(client: &reqwest::Client, url: &str) -> Result<String, Unpinned> {
    let unanswered = |error: reqwest::Error| unanswered(&error.without_url());
    let mut answer = client.get(url).timeout(DOWNLOAD).send().await.map_err(unanswered)?;
    let status = answer.status();
    if !status.is_success() {
        let why = format!("the server answered {status} when asked whether it changed");
        let passes = status.is_server_error()
            || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
        return Err(if passes { Unpinned::Unknown(why) } else { Unpinned::Always(why) });
    }
    if let Some(tag) = tag(answer.headers()) {
        return Ok(tag);
    }
    let (mut digest, mut length) = (Sha256::new(), 0);
    let announced = answer.content_length().unwrap_or(0);
    while announced <= LARGEST && length <= LARGEST {
        match answer.chunk().await.map_err(unanswered)? {
            Some(bytes) => {
                length += bytes.len() as u64;
                digest.update(&bytes);
            }
            None => return Ok(format!("sha256 {}", hex::encode(digest.finalize()))),
        }
    }
    Err(Unpinned::Always(format!(
        "the server gives no ETag, and it is longer than {} MiB: add --checksum, or bound it with \
         --refresh",
        LARGEST >> 20
    )))
}

/// Nobody answered; with the innermost cause, for the outer ones only say that something failed.
fn unanswered(error: &(dyn Error + 'static)) -> Unpinned {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    Unpinned::Unknown(format!("the server could not be asked whether it changed ({cause})"))
}

fn tag(headers: &HeaderMap) -> Option<String> {
    let tag = headers.get(header::ETAG)?.to_str().ok()?;
    Some(format!("etag {tag}"))
}

/// The commit that a branch or tag is at, from `git ls-remote`.
async fn commit(source: &GitSource) -> Result<String, Unpinned> {
    let reference = source.reference.as_deref().unwrap_or("HEAD");
    if source.remote.starts_with('-') || reference.starts_with('-') {
        return Err(Unpinned::Always("it is not the name of a repository".into()));
    }
    let output = tokio::process::Command::new("git")
        .args(["ls-remote", "--", &source.remote, reference, &format!("{reference}^{{}}")])
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let unknown = |why: String| Err(Unpinned::Unknown(why));
    let output = match tokio::time::timeout(PATIENCE, output).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return unknown(format!("git could not be run ({error})")),
        Err(_) => return unknown("git ls-remote took too long".into()),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        return unknown(format!("git ls-remote failed: {last}"));
    }
    let found = resolve(&String::from_utf8_lossy(&output.stdout), reference);
    let found = found.map_err(Unpinned::Always)?;
    Ok(format!("commit {}", found.join(" ")))
}

/// What a reference means, from what `ls-remote` printed: a commit, and the tag that names it where
/// that is an annotated one, since `ADD --keep-git-dir` shows it. Where a name means two things, BuildKit
/// itself is of two minds: it looks for the branch and fetches the tag (`source/git/source.go`).
fn resolve(listing: &str, reference: &str) -> Result<Vec<String>, String> {
    let lines: Vec<(&str, &str)> = listing.lines().filter_map(|l| l.split_once('\t')).collect();
    let id = |name: &str| {
        let (id, _) = lines.iter().find(|(_, found)| *found == name)?;
        (id.len() >= 40 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| (*id).to_owned())
    };
    let names = ["", "refs/", "refs/heads/", "refs/tags/"].map(|root| format!("{root}{reference}"));
    let means = |name: &String| {
        let ids = [id(&format!("{name}^{{}}")), id(name)].into_iter().flatten();
        Some(ids.collect()).filter(|ids: &Vec<String>| !ids.is_empty())
    };
    let mut found = names.iter().filter_map(means);
    let first =
        found.next().ok_or_else(|| format!("the repository has no branch or tag `{reference}`"))?;
    if found.any(|other| other != first) {
        return Err(format!(
            "`{reference}` is a branch and a tag: write `refs/heads/{reference}` or `refs/tags/{reference}`"
        ));
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_a_commit_or_says_why_not() {
        let (a, b, c) = ("a".repeat(40), "b".repeat(40), "c".repeat(40));
        let listing =
            format!("{a}\trefs/heads/v1\n{b}\trefs/tags/v1\n{c}\trefs/tags/v1^{{}}\n{a}\tHEAD\n");
        for name in ["HEAD", "refs/heads/v1", "heads/v1"] {
            assert_eq!(resolve(&listing, name).unwrap(), std::slice::from_ref(&a));
        }
        for name in ["refs/tags/v1", "tags/v1"] {
            assert_eq!(resolve(&listing, name).unwrap(), [c.clone(), b.clone()]);
        }
        assert!(resolve(&listing, "v1").unwrap_err().contains("`refs/heads/v1` or `refs/tags/v1`"));
        assert!(resolve(&listing, "v2").unwrap_err().contains("no branch or tag `v2`"));
        // A branch and a tag at the same commit are one, and what is no commit is none.
        let listing = format!("{a}\trefs/heads/v1\n{a}\trefs/tags/v1\nnonsense\trefs/v1\n");
        assert_eq!(resolve(&listing, "v1").unwrap(), [a]);
    }

    #[test]
    fn only_an_etag_stands_for_content() {
        let headers = |pairs: &[(header::HeaderName, &str)]| -> HeaderMap {
            pairs.iter().map(|(k, v)| (k.clone(), v.parse().unwrap())).collect()
        };
        let date = (header::LAST_MODIFIED, "Mon, 23 Nov 2026 00:00:00 GMT");
        assert_eq!(tag(&headers(&[date.clone(), (header::CONTENT_LENGTH, "5")])), None);
        assert_eq!(tag(&headers(&[date, (header::ETAG, "W/\"x\"")])), Some("etag W/\"x\"".into()));
    }
}
