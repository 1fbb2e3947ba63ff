//! What came of all the pairs.

use std::{collections::BTreeMap, fmt, io::Write as _};

use super::case::Case;

/// What came of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// The images differ, and so do the keys.
    Differs,
    /// The variant no longer builds, and the key moved.
    Fails,
    /// The images and the keys are the same.
    Same,
    /// The key stayed, as it must; nothing was built.
    Kept,
    /// The images are the same, and the key moved.
    Moved,
    /// The variant must not be skipped whatever its key says.
    NotSkippable,
    /// The program refuses the variant.
    Refused,
    /// The images differ, and the keys do not.
    Stale,
}

const COLUMNS: [(Verdict, &str); 8] = [
    (Verdict::Differs, "differ"),
    (Verdict::Fails, "fail"),
    (Verdict::Same, "same"),
    (Verdict::Kept, "kept"),
    (Verdict::Moved, "moved"),
    (Verdict::NotSkippable, "unskip"),
    (Verdict::Refused, "refused"),
    (Verdict::Stale, "STALE"),
];

#[derive(Debug, Default)]
pub(super) struct Summary {
    /// By mutation.
    counts: BTreeMap<&'static str, BTreeMap<Verdict, u64>>,
    unbuildable: u64,
    pub(super) faults: Vec<String>,
}

impl Summary {
    /// Pairs of which both were built.
    pub(super) fn built(&self) -> u64 {
        let all: u64 = self.counts.values().flat_map(BTreeMap::values).sum();
        all - self.total(Verdict::Kept)
    }

    pub(super) fn count(&mut self, mutation: &'static str, verdict: Verdict) {
        *self.counts.entry(mutation).or_default().entry(verdict).or_default() += 1;
    }

    /// A case that does not build to begin with.
    pub(super) fn unbuildable(&mut self) {
        self.unbuildable += 1;
    }

    pub(super) fn fault(
        &mut self,
        seed: u64,
        mutation: &str,
        fault: &str,
        base: &Case,
        changed: &Case,
    ) {
        let changed = if base == changed { String::new() } else { format!("=== after\n{changed}") };
        let report = format!("##### seed {seed}, {mutation}: {fault}\n=== before\n{base}{changed}");
        say(&report);
        self.faults.push(report);
    }

    fn total(&self, verdict: Verdict) -> u64 {
        self.counts.values().filter_map(|counts| counts.get(&verdict)).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = COLUMNS.map(|(_, title)| format!("{title:>8}")).concat();
        writeln!(f, "soundness: {:<44}{titles}", "by what was changed")?;
        for (mutation, counts) in &self.counts {
            let row =
                COLUMNS.map(|(verdict, _)| format!("{:>8}", counts.get(&verdict).unwrap_or(&0)));
            writeln!(f, "soundness: {mutation:<44}{}", row.concat())?;
        }
        let row = COLUMNS.map(|(verdict, _)| format!("{:>8}", self.total(verdict))).concat();
        writeln!(f, "soundness: {:<44}{row}", "all")?;
        write!(
            f,
            "soundness: {} pairs built, {} more keys compared, {} faults, {} cases that do not build to \
             begin with",
            self.built(),
            self.total(Verdict::Kept),
            self.faults.len(),
            self.unbuildable
        )
    }
}

/// Tells people, also where the test's output is kept from them.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
