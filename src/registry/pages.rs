//! The pages of a list: where the next one is.
//!
//! Knows the `Link` header (RFC 8288) and its relation `next` (distribution specification, "Listing
//! Tags"); pure.

use reqwest::{
    Url,
    header::{HeaderMap, LINK},
};

/// A `Link` header that cannot be read, or names what cannot be the next page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost;

/// The path of the page after the one that came from `url`, with its query; `None` after the last.
///
/// Always on the same registry: one that stands behind another server may name itself as it knows
/// itself.
pub(super) fn next(headers: &HeaderMap, url: &Url) -> Result<Option<String>, Lost> {
    let mut found: Option<String> = None;
    for header in headers.get_all(LINK) {
        for target in next_targets(header.to_str().map_err(|_| Lost)?)? {
            let page = path_of(target, url)?;
            if found.as_ref().is_some_and(|found| *found != page) {
                return Err(Lost);
            }
            found = Some(page);
        }
    }
    Ok(found)
}

fn path_of(target: &str, url: &Url) -> Result<String, Lost> {
    let page = url.join(target).map_err(|_| Lost)?;
    let path = page.path();
    // Two slashes would name another host.
    if !matches!(page.scheme(), "http" | "https") || path.starts_with("//") {
        return Err(Lost);
    }
    Ok(page.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}")))
}

/// The targets of a header's links of the relation `next`.
fn next_targets(header: &str) -> Result<Vec<&str>, Lost> {
    let mut targets = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Ok(targets);
        }
        let (target, after) = rest.strip_prefix('<').and_then(|r| r.split_once('>')).ok_or(Lost)?;
        let (parameters, after) = after.split_at(end_of_link(after));
        if is_next(parameters) {
            targets.push(target);
        }
        rest = after;
    }
}

/// Where the parameters of a link end: at a comma that is in no quotes.
fn end_of_link(text: &str) -> usize {
    let mut quoted = false;
    let end = text.find(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    end.unwrap_or(text.len())
}

/// Whether `; rel="prev next"` is among the parameters. The first `rel` counts (RFC 8288, 3.3).
fn is_next(parameters: &str) -> bool {
    let relation = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("rel").then(|| value.trim().trim_matches('"'))
    });
    let mut relations = relation.unwrap_or_default().split_ascii_whitespace();
    relations.any(|relation| relation.eq_ignore_ascii_case("next"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next_of(links: &[&str]) -> Result<Option<String>, Lost> {
        let mut headers = HeaderMap::new();
        for link in links {
            headers.append(LINK, link.parse().unwrap());
        }
        next(&headers, &"https://r.example/v2/a/tags/list?n=2".parse().unwrap())
    }

    #[test]
    fn the_next_page_is_on_the_same_registry() {
        let path = Ok(Some("/v2/a/tags/list?last=x&n=2".to_owned()));
        for link in [
            r#"</v2/a/tags/list?last=x&n=2>; rel="next""#,
            "<https://evil.example/v2/a/tags/list?last=x&n=2>;rel=next",
            "<//evil.example/v2/a/tags/list?last=x&n=2>; rel=next",
            "<list?last=x&n=2>; rel=next",
            "<?last=x&n=2>; title=\"a, b\"; REL = \"last Next\"",
            "</v2/a>; rel=prev, </v2/a/tags/list?last=x&n=2>; rel=next",
        ] {
            assert_eq!(next_of(&[link]), path, "{link}");
        }
        assert_eq!(next_of(&["</v2/a>; rel=prev", "<list?last=x&n=2>; rel=next"]), path);
    }

    #[test]
    fn the_last_page_names_no_next_one() {
        for links in [&[][..], &[""], &["</v2/a>; rel=prev"], &["</v2/a>; title=\"rel=next\""]] {
            assert_eq!(next_of(links), Ok(None), "{links:?}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_not_the_last_page() {
        for links in [
            &["nonsense"][..],
            &["<x; rel=next"],
            &["<ftp://r.example/x>; rel=next"],
            &["<https://r.example//evil.example/x>; rel=next"],
            &["<https://>; rel=next"],
            &["</one>; rel=next", "</other>; rel=next"],
        ] {
            assert_eq!(next_of(links), Err(Lost), "{links:?}");
        }
    }
}
