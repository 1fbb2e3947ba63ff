//! Reading the text of an expression. Knows Go's `regexp/syntax`, as far as the patterns of ignore files
//! reach into it; must not know how anything is matched.

use super::{Reason, Set, Step};

/// Reads the text of an expression by the rules of Go's `regexp/syntax` with its Perl flags.
pub(super) struct Parser<'a> {
    text: &'a [char],
    /// The alternatives, the last one still open.
    alternatives: Vec<Vec<Step>>,
    /// Whether what was read last repeats something: it cannot be repeated itself.
    repeated: bool,
    /// The steps that repetitions have come to.
    repeated_steps: &'a mut usize,
}

/// As many steps may repetitions of a list of patterns come to. Go allows a single expression more of
/// them, in 128 MiB (`regexp/syntax/parse.go`: `maxSize`), and any number of expressions.
const MOST_REPEATED: usize = 1 << 18;

const BAD_RANGE: Reason = "a range or the name of a class in it is wrong";
const BAD_ESCAPE: Reason = "a backslash is followed by a letter or digit that means nothing";
const BAD_REPEAT: Reason = "a number of repetitions in braces repeats nothing, or is out of range";
const TOO_LONG: Reason = "its repetitions, with those of the lines before it, come to too much";
const OPEN_CLASS: Reason = "a `[` is not closed";
const NO_PROPERTIES: Reason = "classes of Unicode properties are not supported";

/// How often something is repeated: at least, at most.
type Count = (usize, Option<usize>);

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a [char], repeated_steps: &'a mut usize) -> Parser<'a> {
        Parser { text, alternatives: vec![Vec::new()], repeated: false, repeated_steps }
    }

    pub(super) fn parse(mut self) -> Result<Vec<Vec<Step>>, Reason> {
        const DIRECTORIES: [char; 6] = ['(', '.', '*', '/', ')', '?'];
        while let Some(character) = self.text.first().copied() {
            let was_repeated = std::mem::take(&mut self.repeated);
            match character {
                '(' if self.text.starts_with(&DIRECTORIES) => {
                    self.text = &self.text[DIRECTORIES.len()..];
                    self.push(Step::Directories);
                    self.push(Step::InDirectories);
                    self.repeated = true;
                    continue;
                }
                '\\' => {
                    self.escape()?;
                    continue;
                }
                '[' => {
                    let set = self.class()?;
                    self.push(Step::One(set));
                    continue;
                }
                '*' => self.repeat((0, None), was_repeated)?,
                '{' if let Some((count, length)) = self.count()? => {
                    self.text = &self.text[length..];
                    self.repeat(count, was_repeated)?;
                    continue;
                }
                '|' => self.alternatives.push(Vec::new()),
                '^' => self.push(Step::Start),
                '$' => self.push(Step::End),
                '.' => self.push(Step::One(Set::NotNewline)),
                literal => self.push(Step::One(Set::Char(literal))),
            }
            self.text = &self.text[1..];
        }
        Ok(self.alternatives)
    }

    fn steps(&mut self) -> &mut Vec<Step> {
        if self.alternatives.is_empty() {
            self.alternatives.push(Vec::new());
        }
        let last = self.alternatives.len() - 1;
        &mut self.alternatives[last]
    }

    fn push(&mut self, step: Step) {
        self.steps().push(step);
    }

    /// `{2}`, `{2,}` or `{2,3}`, and the length of its text. Anything else in braces is text.
    fn count(&self) -> Result<Option<(Count, usize)>, Reason> {
        const MOST: usize = 1000;
        let Some(end) = self.text.iter().position(|c| *c == '}') else { return Ok(None) };
        let inside: String = self.text[1..end].iter().collect();
        let is_number = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_digit())
                && (text.len() == 1 || !text.starts_with('0'))
        };
        let (least, most) = match inside.split_once(',') {
            None => (&inside[..], Some(&inside[..])),
            Some((least, "")) => (least, None),
            Some((least, most)) => (least, Some(most)),
        };
        if !is_number(least) || most.is_some_and(|most| !is_number(most)) {
            return Ok(None);
        }
        let number = |text: &str| text.parse().ok().filter(|n| *n <= MOST).ok_or(BAD_REPEAT);
        let (least, most) = (number(least)?, most.map(number).transpose()?);
        if most.is_some_and(|most| most < least) {
            return Err(BAD_REPEAT);
        }
        Ok(Some(((least, most), end + 1)))
    }

    /// Repeats the last step.
    fn repeat(&mut self, (least, most): Count, was_repeated: bool) -> Result<(), Reason> {
        self.repeated = true;
        let last = self.steps().pop().filter(|_| !was_repeated).ok_or(BAD_REPEAT)?;
        match last {
            Step::One(set) => {
                let optional = most.map_or(0, |most| most - least);
                *self.repeated_steps += (least + optional).saturating_sub(1);
                if *self.repeated_steps > MOST_REPEATED {
                    return Err(TOO_LONG);
                }
                let steps = self.steps();
                steps.extend(std::iter::repeat_n(Step::One(set.clone()), least));
                steps.extend(std::iter::repeat_n(Step::Optional(set.clone()), optional));
                if most.is_none() {
                    steps.push(Step::Many(set));
                }
            }
            // An assertion holds as often as it is asked.
            assertion if least > 0 => self.push(assertion),
            _ => {}
        }
        Ok(())
    }

    /// An escape outside a class.
    fn escape(&mut self) -> Result<(), Reason> {
        let step = match self.text.get(1) {
            Some('Q') => {
                let quoted = &self.text[2..];
                let end = quoted.windows(2).position(|pair| pair == ['\\', 'E']);
                let (literal, rest) = match end {
                    Some(end) => (&quoted[..end], &quoted[end + 2..]),
                    None => (quoted, &quoted[quoted.len()..]),
                };
                self.steps().extend(literal.iter().map(|c| Step::One(Set::Char(*c))));
                self.text = rest;
                return Ok(());
            }
            Some('A') => Step::Start,
            Some('z') => Step::End,
            Some('b') => Step::WordBoundary(true),
            Some('B') => Step::WordBoundary(false),
            Some('p' | 'P') => return Err(NO_PROPERTIES),
            Some(letter) => match perl_class(*letter) {
                Some((negated, ranges)) => Step::One(Set::Class { negated, ranges }),
                None => {
                    let character = self.escaped_char()?;
                    self.push(Step::One(Set::Char(character)));
                    return Ok(());
                }
            },
            None => return Err(BAD_ESCAPE),
        };
        self.text = &self.text[2..];
        self.push(step);
        Ok(())
    }

    /// A class, from its `[` to its `]`.
    fn class(&mut self) -> Result<Set, Reason> {
        self.text = &self.text[1..];
        let negated = self.text.first() == Some(&'^');
        self.text = &self.text[usize::from(negated)..];
        let mut ranges = Vec::new();
        let mut first = true;
        loop {
            if self.text.starts_with(&['[', ':']) && self.named_class(&mut ranges)? {
                first = false;
                continue;
            }
            match self.text {
                [] => return Err(OPEN_CLASS),
                [']', rest @ ..] if !first => {
                    self.text = rest;
                    break;
                }
                ['\\', 'p' | 'P', ..] => {
                    return Err(NO_PROPERTIES);
                }
                ['\\', letter, rest @ ..] if perl_class(*letter).is_some() => {
                    self.text = rest;
                    let (negated, own) = perl_class(*letter).unwrap_or_default();
                    ranges.extend(if negated { complement(own) } else { own });
                }
                _ => {
                    let low = self.class_char()?;
                    let high = match self.text {
                        ['-', next, ..] if *next != ']' => {
                            self.text = &self.text[1..];
                            self.class_char()?
                        }
                        _ => low,
                    };
                    if high < low {
                        return Err(BAD_RANGE);
                    }
                    ranges.push((low, high));
                }
            }
            first = false;
        }
        if negated && ranges == [('/', '/')] {
            return Ok(Set::NotSlash);
        }
        Ok(Set::Class { negated, ranges })
    }

    /// `[:alpha:]` and its like in a class. What is not closed is not one.
    fn named_class(&mut self, ranges: &mut Vec<(char, char)>) -> Result<bool, Reason> {
        let Some(end) = self.text[2..].windows(2).position(|pair| pair == [':', ']']) else {
            return Ok(false);
        };
        let name: String = self.text[2..2 + end].iter().collect();
        let (negated, name) = match name.strip_prefix('^') {
            Some(name) => (true, name),
            None => (false, &name[..]),
        };
        let own: &[(char, char)] = match name {
            "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
            "alpha" => &[('A', 'Z'), ('a', 'z')],
            "ascii" => &[('\0', '\x7f')],
            "blank" => &[('\t', '\t'), (' ', ' ')],
            "cntrl" => &[('\0', '\x1f'), ('\x7f', '\x7f')],
            "digit" => &[('0', '9')],
            "graph" => &[('!', '~')],
            "lower" => &[('a', 'z')],
            "print" => &[(' ', '~')],
            "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
            "space" => &[('\t', '\r'), (' ', ' ')],
            "upper" => &[('A', 'Z')],
            "word" => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
            "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
            _ => return Err(BAD_RANGE),
        };
        ranges.extend(if negated { complement(own.to_vec()) } else { own.to_vec() });
        self.text = &self.text[end + 4..];
        Ok(true)
    }

    fn class_char(&mut self) -> Result<char, Reason> {
        match self.text {
            [] => Err(OPEN_CLASS),
            ['\\', ..] => self.escaped_char(),
            [character, rest @ ..] => {
                self.text = rest;
                Ok(*character)
            }
        }
    }

    /// An escape that stands for one character.
    fn escaped_char(&mut self) -> Result<char, Reason> {
        let (first, mut rest) = match self.text {
            ['\\', first, rest @ ..] => (*first, rest),
            _ => return Err(BAD_ESCAPE),
        };
        let is_octal = |c: &&char| ('0'..='7').contains(*c);
        let character = match first {
            '1'..='7' if rest.first().filter(is_octal).is_none() => return Err(BAD_ESCAPE),
            '0'..='7' => {
                let mut value = first.to_digit(8).unwrap_or_default();
                for _ in 0..2 {
                    let Some(digit) = rest.first().filter(is_octal) else { break };
                    value = value * 8 + digit.to_digit(8).unwrap_or_default();
                    rest = &rest[1..];
                }
                char::from_u32(value).ok_or(BAD_ESCAPE)?
            }
            'x' => {
                let digits = (rest.first(), rest.get(1));
                let (Some(high), Some(low)) = digits else { return Err(BAD_ESCAPE) };
                let (Some(high), Some(low)) = (high.to_digit(16), low.to_digit(16)) else {
                    return Err(BAD_ESCAPE);
                };
                rest = &rest[2..];
                char::from_u32(high * 16 + low).ok_or(BAD_ESCAPE)?
            }
            'a' => '\x07',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            punctuation if punctuation.is_ascii() && !punctuation.is_ascii_alphanumeric() => {
                punctuation
            }
            _ => return Err(BAD_ESCAPE),
        };
        self.text = rest;
        Ok(character)
    }
}

/// `\d`, `\s`, `\w` and their opposites: whether it is the opposite, and of what.
fn perl_class(letter: char) -> Option<(bool, Vec<(char, char)>)> {
    let ranges = match letter.to_ascii_lowercase() {
        'd' => vec![('0', '9')],
        's' => vec![('\t', '\n'), ('\x0c', '\r'), (' ', ' ')],
        'w' => vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        _ => return None,
    };
    Some((letter.is_ascii_uppercase(), ranges))
}

/// Everything that sorted ASCII ranges leave out.
fn complement(ranges: Vec<(char, char)>) -> Vec<(char, char)> {
    let mut left = Vec::new();
    let mut next = 0;
    for (low, high) in ranges {
        let below = u32::from(low).checked_sub(1).and_then(char::from_u32);
        if let (Some(start), Some(below)) = (char::from_u32(next), below)
            && start <= below
        {
            left.push((start, below));
        }
        next = u32::from(high) + 1;
    }
    left.extend(char::from_u32(next).map(|start| (start, char::MAX)));
    left
}
