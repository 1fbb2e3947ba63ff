//! One more instruction at the end of the target's stage.
//!
//! An image that was built from this text, and from nothing on top of it, has that instruction last
//! in its history.

use std::borrow::Cow;

use super::{
    Dockerfile, Error, Request,
    lex::{self, Lexed},
};

impl Dockerfile {
    /// The text with one more instruction at the end of the stage that `request` builds, and every
    /// line up to there where it was. `None` if it would not stand on a line of its own.
    ///
    /// # Errors
    /// The target is not there.
    pub fn marked(&self, request: &Request, instruction: &str) -> Result<Option<Vec<u8>>, Error> {
        let target = super::stages::target(self, request)
            .map_err(|fault| Error::locate(&self.text, fault))?;
        // What comes after the target's stage cannot be part of the target.
        let end = self.stage_start(target + 1);
        let (stage, rest) = self.text.split_at(end);
        // Only the end of the text can cut an instruction short: a `FROM` behind a continued line would
        // be part of that.
        let stage = match rest.is_empty() && self.unfinished {
            true => finished(stage),
            false => Some(Cow::Borrowed(stage)),
        };
        let Some(stage) = stage else { return Ok(None) };
        let newline: &[u8] = if stage.ends_with(b"\n") { b"" } else { b"\n" };
        Ok(Some([&stage, newline, instruction.as_bytes(), b"\n", rest].concat()))
    }
}

/// A text without the continuation characters that lead to its end, where it says the same without
/// them: an escape character before one would take its place.
fn finished(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    /// Lines with nothing else on them may come before the end, but not so many.
    const MOST: usize = 8;
    let last = |text: &[u8]| {
        let Lexed { mut statements, unfinished, .. } = lex::lex(text).ok()?;
        let count = statements.len();
        Some((count, statements.pop()?.joined.text.trim_end().to_owned(), unfinished))
    };
    let mut finished = text.to_vec();
    let (count, said, mut unfinished) = last(text)?;
    for _ in 0..MOST {
        let Some(at) = unfinished else { break };
        finished.remove(at);
        let (new_count, new_said, new_unfinished) = last(&finished)?;
        if (new_count, &new_said) != (count, &said) {
            return None;
        }
        unfinished = new_unfinished;
    }
    unfinished.is_none().then_some(Cow::Owned(finished))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Platform;

    fn marked(text: &str, target: Option<&str>) -> Option<String> {
        let mut request = Request::new(Platform::host());
        request.target = target.map(str::to_owned);
        let dockerfile = super::super::parse(text.as_bytes()).unwrap();
        let marked = dockerfile.marked(&request, "LABEL k=v").unwrap()?;
        Some(String::from_utf8(marked).unwrap())
    }

    #[test]
    fn the_instruction_ends_the_stage_that_is_built() {
        let text = "FROM scratch AS a\nCOPY x /\n\n# next\nFROM a\nCOPY y /";
        assert_eq!(
            marked(text, None).unwrap(),
            "FROM scratch AS a\nCOPY x /\n\n# next\nFROM a\nCOPY y /\nLABEL k=v\n"
        );
        assert_eq!(
            marked(text, Some("a")).unwrap(),
            "FROM scratch AS a\nCOPY x /\n\n# next\nLABEL k=v\nFROM a\nCOPY y /"
        );
    }

    #[test]
    fn heredocs_and_comments_end_where_they_end() {
        let text = "FROM scratch\nCOPY <<EOF /x\nFROM b\nEOF\n# the end \\";
        assert_eq!(marked(text, None).unwrap(), format!("{text}\nLABEL k=v\n"));
        let text = "FROM scratch\nCOPY <<EOF /x\n\\\nEOF\n";
        assert_eq!(marked(text, None).unwrap(), format!("{text}LABEL k=v\n"));
        let text = "FROM scratch AS a\nCOPY x /\n# the end \\\nFROM a\n";
        let expected = "FROM scratch AS a\nCOPY x /\n# the end \\\nLABEL k=v\nFROM a\n";
        assert_eq!(marked(text, Some("a")).unwrap(), expected);
    }

    #[test]
    fn a_continued_end_is_ended() {
        for end in ["", "\n", "\n\n", "\n# c", "\n  # c\n\n", "\r\n#\r\n", " \t\n#\n"] {
            let text = |last: &str| format!("FROM scratch\nCMD a {last}{end}");
            let newline = if end.ends_with('\n') { "" } else { "\n" };
            let expected = format!("{}{newline}LABEL k=v\n", text(""));
            assert_eq!(marked(&text("\\"), None).unwrap(), expected, "{end:?}");
        }
        let several = "FROM scratch\nCMD a \\\n#\nb \\\n \\\n#";
        let expected = "FROM scratch\nCMD a \\\n#\nb \n \n#\nLABEL k=v\n";
        assert_eq!(marked(several, None).unwrap(), expected);
        let backtick = "# escape=`\nFROM scratch\nCMD a \\\n# `\n";
        assert_eq!(marked(backtick, None).unwrap(), format!("{backtick}LABEL k=v\n"));
        let backtick = "# escape=`\nFROM scratch\nCMD a `\n\n";
        assert_eq!(marked(backtick, None).unwrap(), backtick.replace(" `", " ") + "LABEL k=v\n");
    }

    #[test]
    fn an_end_that_cannot_be_ended_takes_no_mark() {
        assert_eq!(marked("FROM scratch\nCMD a\\ \\\n#", None), None, "`a\\ ` would be continued");
        let long = format!("FROM scratch\nCMD a \\\n{}", " \\\n".repeat(20));
        assert_eq!(marked(&long, None), None);
    }

    #[test]
    fn an_end_behind_the_stage_that_is_built_is_left_alone() {
        let text = "FROM scratch AS a\nFROM a\nCMD a \\\n#";
        let expected = "FROM scratch AS a\nLABEL k=v\nFROM a\nCMD a \\\n#";
        assert_eq!(marked(text, Some("a")).unwrap(), expected);
        let ended = "FROM scratch\nCMD a \\\n#\nb\n#";
        assert_eq!(marked(ended, None).unwrap(), format!("{ended}\nLABEL k=v\n"));
    }
}
