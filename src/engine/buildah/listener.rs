//! What the program says, told from what its steps write.
//!
//! Both come through one pipe, and a step may write whatever the program does. So every line is
//! shown, and only the last error counts, when the pipe has ended with it.

use super::command::{homeless, in_one_line, is_heading};
use crate::engine::{build::BuildError, classic, http::ErrorDetail, progress::Progress};

/// How an error of the program begins.
const ERROR: &str = "Error: ";
/// How the error begins with which it gives up at a step (containers/buildah
/// `imagebuildah/stage_executor.go`).
const AT_STEP: &str = "Error: building at STEP ";

/// Somebody who listens to a run of the program, and to the next one if the build begins anew.
#[derive(Default)]
pub(super) struct Listener {
    output: classic::Output,
    /// Whether a line has begun and not ended.
    within: bool,
    /// The last lines, if they are an error of the program: or of a step that goes on.
    error: Option<String>,
    /// What the processes below it said when they ended, if it was that: it comes before the error.
    ends: Vec<String>,
    /// The line that says that it has no settings, if there was one.
    pub(super) homeless: Option<String>,
}

impl Listener {
    /// Takes in a line with its end, or a piece of one that is too long.
    pub(super) fn hear(&mut self, text: &str, progress: &dyn Progress) {
        let within = std::mem::replace(&mut self.within, !text.ends_with('\n'));
        if homeless(text).is_some() {
            self.homeless = Some(text.to_owned());
        }
        let at = match text.starts_with(ERROR) && !within {
            true => Some(0),
            // A step that ends its output without a newline leaves it to the error to go on.
            false => text.find(AT_STEP),
        };
        if let Some((before, error)) = at.and_then(|at| text.split_at_checked(at)) {
            if self.error.is_some() || !before.is_empty() {
                self.release(progress);
            }
            if !before.is_empty() {
                self.pass_on(before, within, progress);
            }
            self.error = Some(error.to_owned());
            return;
        }
        if !within && text.starts_with("subprocess exited with status ") {
            self.ends.push(text.to_owned());
            return;
        }
        if let Some(error) = &mut self.error {
            // Behind a list, the error that it interrupted goes on.
            let item = is_heading(error)
                && (text.trim_start().starts_with("* ") || text.starts_with(": "));
            if !within && (item || text.trim().is_empty()) {
                error.push_str(text);
                return;
            }
            // What the process above it logs, when it has said all.
            if within || !text.starts_with("time=\"") {
                self.release(progress);
            }
        } else {
            self.release(progress);
        }
        self.pass_on(text, within, progress);
    }

    fn pass_on(&mut self, text: &str, within: bool, progress: &dyn Progress) {
        match within {
            true => self.output.more(text, progress),
            false => self.output.text(text, progress),
        }
    }

    /// What looked like the end was something that a step wrote.
    fn release(&mut self, progress: &dyn Progress) {
        let held = std::mem::take(&mut self.ends).into_iter().chain(self.error.take());
        for text in held {
            self.output.more(&text, progress);
        }
    }

    /// Why the program gave up, in one line, if it said so. It has ended.
    pub(super) fn reason(&mut self) -> Option<String> {
        let error = self.error.take()?;
        self.ends.clear();
        let error = in_one_line(error.strip_prefix(ERROR).unwrap_or(&error));
        // The step is known.
        let reason = match error.strip_prefix("building at STEP ") {
            Some(rest) => rest.split_once("\": ").map_or(rest, |(_, reason)| reason),
            None => &error,
        };
        Some(reason.to_owned())
    }

    /// The build worked.
    pub(super) fn finish(&mut self, progress: &dyn Progress) {
        self.release(progress);
        self.output.finish(progress);
    }

    /// The program is run once more.
    pub(super) fn begin_again(&mut self, progress: &dyn Progress) {
        self.output.begin_again(progress);
        self.within = false;
    }

    /// The error of a build that failed.
    pub(super) fn failure(&mut self, failure: ErrorDetail, progress: &dyn Progress) -> BuildError {
        self.output.failure(failure, progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::progress::Silent;

    /// The reason and the step's log of a build that fails after these pieces.
    fn failed(pieces: &[&str]) -> (String, String) {
        let mut listener = Listener::default();
        for text in ["STEP 1/2: FROM x\n", "STEP 2/2: RUN y\n"].iter().chain(pieces) {
            listener.hear(text, &Silent);
        }
        let message = listener.reason().unwrap_or_default();
        let failure = ErrorDetail { code: None, message: message.clone() };
        match listener.failure(failure, &Silent) {
            BuildError::Step { log, .. } => (message, log),
            error => panic!("{error:?}"),
        }
    }

    const END: &str = "Error: building at STEP \"RUN y\": while running runtime: exit status 1\n";
    const REASON: &str = "while running runtime: exit status 1";

    #[test]
    fn what_a_step_writes_is_its_own_whatever_it_looks_like() {
        for written in [
            "Error: Cannot find module 'x'\n",
            "Error: one\n    at file.js:1\n",
            "Successfully installed x\n",
            "time=\"2026\" level=info msg=\"mine\"\n",
            "Copying blob sha256:0123 done\n",
            "STEP 7/9: x\n",
            "subprocess exited with status 3\nmore\n",
            "no newline",
        ] {
            let lines: Vec<_> = written.split_inclusive('\n').collect();
            let end = match lines.last() {
                Some(last) if !last.ends_with('\n') => vec![format!("{last}{END}")],
                _ => lines.iter().map(ToString::to_string).chain([END.to_owned()]).collect(),
            };
            let pieces: Vec<_> = end.iter().map(String::as_str).collect();
            assert_eq!(failed(&pieces), (REASON.to_owned(), written.to_owned()), "{written}");
        }
    }

    #[test]
    fn what_is_said_after_the_error_does_not_hide_it() {
        let after = "time=\"2026\" level=error msg=\"exit status 1\"\n";
        let exit = "subprocess exited with status 3\n";
        let (reason, log) = failed(&["hm\n", exit, exit, END, after]);
        assert_eq!((reason.as_str(), log.as_str()), (REASON, format!("hm\n{after}").as_str()));
    }

    #[test]
    fn several_errors_are_one_reason() {
        let (reason, _) = failed(&["Error: 2 errors occurred:\n", "\t* one\n", "\t* two\n", "\n"]);
        assert_eq!(reason, "one; two");
        let (reason, log) = failed(&[
            "Error: deleting build container \"c\": 2 errors occurred:\n",
            "\t* one\n",
            "\t* two\n",
            "\n",
            ": building at STEP \"RUN y\": 1 error occurred:\n",
            "\t* three\n",
            "\n",
            "\n",
            "time=\"2026\" level=warning msg=\"Found incomplete layer\"\n",
        ]);
        assert_eq!(reason, "one; two; three");
        assert!(log.starts_with("time="), "{log}");
    }

    #[test]
    fn a_line_that_comes_in_pieces_is_no_line_of_the_program() {
        let (reason, log) = failed(&["a long", "STEP 2/2: one", "Error: x\n", END]);
        assert_eq!(reason, REASON);
        assert_eq!(log, "a longSTEP 2/2: oneError: x\n");
    }
}
