//! A statement divided into its name, its flags and the rest
//! (`moby/buildkit: frontend/dockerfile/parser/split_command.go`).

use super::error::Fault;

/// A statement divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) name: String,
    pub(super) flags: Vec<Flag>,
    /// What follows the flags, without blanks around it.
    pub(super) rest: String,
    /// Where the rest begins.
    pub(super) rest_at: usize,
}

/// `--name=value` without its quotes and escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flag {
    pub(super) text: String,
    /// Where it begins in the statement.
    pub(super) at: usize,
    /// For each character of the text, where it ends in the statement.
    pub(super) ends: Vec<usize>,
}

/// The blanks that separate arguments (`reWhitespace`); fewer than Unicode has.
pub(super) const BLANKS: [char; 5] = ['\t', '\u{b}', '\u{c}', '\r', ' '];

/// Divides a statement.
pub(super) fn split(statement: &str, escape: char) -> Result<Split, Fault> {
    let start = statement.len() - statement.trim_start().len();
    let trimmed = statement.trim();
    let name_end = trimmed.find(BLANKS).unwrap_or(trimmed.len());
    let (name, rest) = trimmed.split_at(name_end);
    let blanks = rest.len() - rest.trim_start_matches(BLANKS).len();
    let at = start + name_end + blanks;
    let mut scan = Scan { bytes: trimmed.as_bytes(), offset: start, escape: escape as u8 };
    let (flags, end) = scan.flags(name_end + blanks);
    let rest = trimmed
        .get(end..)
        .ok_or_else(|| Fault::not_understood(at, "a flag has characters beyond ASCII"))?;
    let rest_at = start + end + (rest.len() - rest.trim_start().len());
    Ok(Split { name: name.to_owned(), flags, rest: rest.trim().to_owned(), rest_at })
}

struct Scan<'a> {
    bytes: &'a [u8],
    /// Where the bytes begin in the statement.
    offset: usize,
    escape: u8,
}

impl Scan<'_> {
    /// The flags that stand from a place on, and where the rest begins. Byte by byte, as BuildKit
    /// does, so that what is beyond ASCII becomes Latin-1 here as it does there.
    fn flags(&mut self, mut at: usize) -> (Vec<Flag>, usize) {
        let mut flags = Vec::new();
        loop {
            while self.bytes.get(at).is_some_and(|&b| char::from(b).is_whitespace()) {
                at += 1;
            }
            if !self.bytes[at..].starts_with(b"--") {
                return (flags, at);
            }
            let flag;
            (flag, at) = self.flag(at);
            if flag.text == "--" {
                return (flags, at);
            }
            flags.push(flag);
        }
    }

    /// The flag at a place, and where it ends.
    fn flag(&self, start: usize) -> (Flag, usize) {
        let mut flag = Flag { text: String::new(), at: self.offset + start, ends: Vec::new() };
        let mut quote = None;
        let mut at = start;
        while let Some(&byte) = self.bytes.get(at) {
            at += 1;
            match quote {
                None if char::from(byte).is_whitespace() => return (flag, at - 1),
                None if matches!(byte, b'\'' | b'"') => {
                    quote = Some(byte);
                    continue;
                }
                Some(q) if q == byte => {
                    quote = None;
                    continue;
                }
                _ => {}
            }
            let mut byte = byte;
            if byte == self.escape {
                let Some(&escaped) = self.bytes.get(at) else { break };
                byte = escaped;
                at += 1;
            }
            flag.text.push(char::from(byte));
            flag.ends.push(self.offset + at);
        }
        (flag, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divided(statement: &str) -> (String, Vec<String>, String) {
        let split = split(statement, '\\').unwrap();
        assert!(statement[split.rest_at..].starts_with(&split.rest), "{statement}");
        (split.name, split.flags.into_iter().map(|flag| flag.text).collect(), split.rest)
    }

    #[test]
    fn name_flags_and_rest_come_apart() {
        for (statement, name, flags, rest) in [
            ("RUN", "RUN", &[][..], ""),
            ("  run\t\u{b} a  b ", "run", &[], "a  b"),
            ("COPY --link --chown=1:2 a b", "COPY", &["--link", "--chown=1:2"], "a b"),
            ("COPY --link", "COPY", &["--link"], ""),
            ("RUN -- --x y", "RUN", &[], "--x y"),
            ("RUN --a -- --x", "RUN", &["--a"], "--x"),
            ("RUN -x --a", "RUN", &[], "-x --a"),
            (
                r#"X --a="b c" --d='e"f' --g=h\ i --"j" k"#,
                "X",
                &["--a=b c", "--d=e\"f", "--g=h i", "--j"],
                "k",
            ),
            (r"X --a\", "X", &["--a"], ""),
            ("X --a=ü y", "X", &["--a=Ã¼"], "y"),
        ] {
            let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
            assert_eq!(divided(statement), (name.into(), flags, rest.into()), "{statement}");
        }
    }

    #[test]
    fn a_character_of_a_flag_knows_where_it_ends() {
        let statement = r#"COPY --from="a\b" x y"#;
        let split = split(statement, '\\').unwrap();
        let flag = &split.flags[0];
        assert_eq!(flag.text, "--from=ab");
        assert_eq!(&statement[..*flag.ends.last().unwrap()], r#"COPY --from="a\b"#);
        assert_eq!(flag.ends.len(), flag.text.chars().count());
    }
}
