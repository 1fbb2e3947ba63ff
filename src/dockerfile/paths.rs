//! Paths as Go's `path` package cleans them, whatever system this runs on.

/// `path.Clean`: without `.`, without `..` where something precedes it, without doubled slashes and
/// without one at the end. Empty becomes `.`.
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|&last| last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// A path of a context: `path.Join("/", path)` without the slash; `.` is the root.
pub(super) fn in_root(path: &str) -> String {
    let cleaned = clean(&format!("/{path}"));
    match cleaned.strip_prefix('/') {
        Some("") | None => ".".to_owned(),
        Some(relative) => relative.to_owned(),
    }
}

/// `path.Base`: the last element.
pub(super) fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        Some("") | None => {
            if path.is_empty() {
                "."
            } else {
                "/"
            }
        }
        Some(last) => last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, cleaned) in [
            ("", "."),
            (".", "."),
            ("a//b/./c/..", "a/b"),
            ("../a/../..", "../.."),
            ("/../a/", "/a"),
            ("/", "/"),
            ("a/..", "."),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
        for (path, cleaned) in [("", "."), ("/", "."), ("../../a", "a"), ("./a*/?/", "a*/?")] {
            assert_eq!(in_root(path), cleaned, "{path}");
        }
        for (path, last) in [("", "."), ("/", "/"), ("/a/b/", "b"), ("a", "a")] {
            assert_eq!(base(path), last, "{path}");
        }
    }
}
