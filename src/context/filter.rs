//! A filter on its way down a tree: `COPY --exclude` and `COPY --parents` below a source.

use super::{patterns::Matched, select::Filter};

/// A filter on its way down.
#[derive(Clone)]
pub(super) struct Active<'a> {
    filter: &'a Filter,
    /// How many bytes of a path come before the part that the filter sees.
    base: usize,
    include: Option<Matched>,
    exclude: Option<Matched>,
}

impl<'a> Active<'a> {
    pub(super) fn new(filter: &'a Filter, base: usize) -> Active<'a> {
        Active { filter, base, include: None, exclude: None }
    }

    /// Whether a file is let through.
    pub(super) fn takes(&self, path: &[u8]) -> bool {
        let path = path.get(self.base..).unwrap_or_default();
        let included = match &self.filter.include {
            Some(include) => include.matches(path, self.include.as_ref()),
            None => true,
        };
        included && !self.filter.exclude.matches(path, self.exclude.as_ref())
    }

    /// Whether a directory is let through, and the filter for what is below it, if anything there
    /// can be.
    pub(super) fn enter(&self, path: &[u8]) -> (bool, Option<Active<'a>>) {
        let path = path.get(self.base..).unwrap_or_default();
        let Filter { include, exclude } = self.filter;
        let (excluded, own_exclude) = exclude.step(path, self.exclude.as_ref());
        if excluded && !exclude.has_exception_below(path) {
            return (false, None);
        }
        let mut own_include = None;
        let mut included = true;
        if let Some(include) = include {
            let (matched, own) = include.step(path, self.include.as_ref());
            if !matched && !include.has_match_below(path) {
                return (false, None);
            }
            (included, own_include) = (matched, Some(own));
        }
        let below = Active { include: own_include, exclude: Some(own_exclude), ..self.clone() };
        (included && !excluded, Some(below))
    }
}
