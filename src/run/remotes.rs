//! What pins the things that a build fetches from elsewhere: checksums, `ETag`s, commits.
//!
//! What nothing pins makes the build not skippable, unless `--refresh` bounds how long it may be old.

use std::time::Duration;

use futures_util::future::join_all;
use http::{HeaderMap, header};

use super::World;
use crate::{
    dockerfile::{self, GitSource, RemoteKind},
    inputs::Remote,
    settings::Request,
};

/// How long a server or `git` may take to say what it has.
const PATIENCE: Duration = Duration::from_secs(20);

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
            Err(_) if request.refresh.is_some() => "as of the period".to_owned(),
            Err(why) => {
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

async fn identity(remote: &dockerfile::Remote, world: &World) -> Result<String, String> {
    match &remote.kind {
        RemoteKind::Http { checksum: Some(checksum) } => Ok(format!("checksum {checksum}")),
        RemoteKind::Http { checksum: None } => validator(&remote.source, world).await,
        RemoteKind::Git(source) => match source.commit() {
            Some(commit) => Ok(format!("commit {commit}")),
            None => commit(source).await,
        },
    }
}

/// What the server says of the content: an `ETag`, or a date and a length. The same evidence by
/// which BuildKit decides whether to fetch again (`moby/buildkit: source/http`).
async fn validator(url: &str, world: &World) -> Result<String, String> {
    let request = world.http().map_err(|error| error.to_string())?.head(url).timeout(PATIENCE);
    let answer = request.send().await.map_err(|error| {
        format!("the server could not be asked whether it changed ({})", error.without_url())
    })?;
    if !answer.status().is_success() {
        return Err(format!(
            "the server answered {} when asked whether it changed",
            answer.status()
        ));
    }
    evidence(answer.headers()).ok_or_else(|| {
        "the server gives neither an ETag nor a date: add --checksum, or bound it with --refresh".into()
    })
}

fn evidence(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name)?.to_str().ok();
    if let Some(tag) = text(header::ETAG) {
        return Some(format!("etag {tag}"));
    }
    Some(format!(
        "modified {} length {}",
        text(header::LAST_MODIFIED)?,
        text(header::CONTENT_LENGTH)?
    ))
}

/// The commit that a branch or tag is at, from `git ls-remote`.
async fn commit(source: &GitSource) -> Result<String, String> {
    let reference = source.reference.as_deref().unwrap_or("HEAD");
    if source.remote.starts_with('-') || reference.starts_with('-') {
        return Err("it is not the name of a repository".into());
    }
    let output = tokio::process::Command::new("git")
        .args(["ls-remote", "--", &source.remote, reference, &format!("{reference}^{{}}")])
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(PATIENCE, output).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("git could not be run ({error})")),
        Err(_) => return Err("git ls-remote took too long".into()),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("git ls-remote failed: {}", said.lines().last().unwrap_or_default()));
    }
    let found = resolve(&String::from_utf8_lossy(&output.stdout), reference)?;
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
    fn a_date_without_a_length_is_no_evidence() {
        let headers = |pairs: &[(header::HeaderName, &str)]| -> HeaderMap {
            pairs.iter().map(|(k, v)| (k.clone(), v.parse().unwrap())).collect()
        };
        let date = (header::LAST_MODIFIED, "Mon, 23 Nov 2026 00:00:00 GMT");
        assert_eq!(evidence(&headers(&[])), None);
        assert_eq!(evidence(&headers(std::slice::from_ref(&date))), None);
        assert!(evidence(&headers(&[date.clone(), (header::CONTENT_LENGTH, "5")])).is_some());
        assert_eq!(evidence(&headers(&[date, (header::ETAG, "\"x\"")])), Some("etag \"x\"".into()));
    }
}
