//! Git repositories as sources of `ADD`.

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
}
