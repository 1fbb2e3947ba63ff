//! What was given and nothing uses: mostly a name that is mistyped.

use crate::{
    dockerfile::{self, Dockerfile, Slice},
    nearest::nearest,
    settings::Request,
};

/// A warning for each build argument, stage and context that the Dockerfile knows nothing of.
///
/// # Errors
/// Those of [`Dockerfile::slice`].
pub(super) fn warnings(
    dockerfile: &Dockerfile,
    asked: &dockerfile::Request,
    slice: &Slice,
    request: &Request,
) -> Result<Vec<String>, dockerfile::Error> {
    let file = request.dockerfile_name();
    let mut warnings = Vec::new();
    let declared = dockerfile.argument_names();
    for name in dockerfile.unused_arguments(asked, slice) {
        let near = there_is(name, declared.iter().map(String::as_str));
        warnings.push(format!("no ARG of {file} declares the build argument `{name}`{near}"));
    }
    let cached = request.cache_stages.iter().flatten();
    let filters = request.no_cache_filter.iter().map(|name| ("--no-cache-filter", name));
    for (option, name) in filters.chain(cached.map(|name| ("--cache-stages", name))) {
        if !dockerfile.stage_names().any(|stage| stage.eq_ignore_ascii_case(name)) {
            let near = there_is(name, dockerfile.stage_names());
            warnings.push(format!("{option} {name}: {file} has no stage of that name{near}"));
        }
    }
    for name in dockerfile.unused_contexts(asked, slice)? {
        let near = there_is(name, dockerfile.stage_names());
        warnings.push(format!("nothing in {file} uses the build context `{name}`{near}"));
    }
    Ok(warnings)
}

/// `; there is …`, if there is something like it.
pub(super) fn there_is<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |name| format!("; there is `{name}`"))
}
