//! One more instruction at the end of the target's stage.
//!
//! An image that was built from this text, and from nothing on top of it, has that instruction last
//! in its history.

use super::{Dockerfile, Error, Request};

impl Dockerfile {
    /// The text with one more instruction at the end of the stage that `request` builds, and every
    /// line up to there where it was. `None` if it would not stand on a line of its own, because the
    /// text ends in a continued line.
    ///
    /// # Errors
    /// The target is not there.
    pub fn marked(&self, request: &Request, instruction: &str) -> Result<Option<Vec<u8>>, Error> {
        let target = super::stages::target(self, request)
            .map_err(|fault| Error::locate(&self.text, fault))?;
        // What comes after the target's stage cannot be part of the target.
        let end = self.stage_start(target + 1);
        let (stage, rest) = self.text.split_at(end);
        let mut escape = [0; 4];
        if stage.trim_ascii_end().ends_with(self.escape.encode_utf8(&mut escape).as_bytes()) {
            return Ok(None);
        }
        let newline: &[u8] = if stage.ends_with(b"\n") { b"" } else { b"\n" };
        Ok(Some([stage, newline, instruction.as_bytes(), b"\n", rest].concat()))
    }
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
        assert_eq!(marked(text, None), None);
        let text = text.trim_end_matches('\\');
        assert_eq!(marked(text, None).unwrap(), format!("{text}\nLABEL k=v\n"));
    }

    #[test]
    fn a_continued_last_line_takes_no_mark() {
        assert_eq!(marked("FROM scratch\nCMD a \\\n", None), None);
        assert!(marked("# escape=`\nFROM scratch\nCMD a \\\n", None).is_some());
        assert_eq!(marked("# escape=`\nFROM scratch\nCMD a `\n\n", None), None);
    }
}
