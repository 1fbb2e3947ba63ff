//! What somebody may have meant who wrote a name that is none.

/// As alike as two names have to be, from 0 to 1: one letter in three may be another, or elsewhere.
const ALIKE: f64 = 0.6;

/// The one of `known` that is most like `name`, if any is like it; upper and lower case are the same.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let alike = |other: &str| strsim::normalized_damerau_levenshtein(&name, &other.to_lowercase());
    let rated = known.into_iter().map(|other| (alike(other), other));
    let best = rated.filter(|(rate, _)| *rate >= ALIKE).max_by(|one, two| one.0.total_cmp(&two.0));
    best.map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_fingers_is_near_and_another_word_is_not() {
        let known = ["build", "test", "VERSION"];
        for (name, meant) in [
            ("biuld", Some("build")),
            ("builder", Some("build")),
            ("tst", Some("test")),
            ("Versoin", Some("VERSION")),
            ("release", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), meant, "{name}");
        }
    }
}
