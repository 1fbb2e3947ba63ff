//! From text to statements: lines, directives, comments, continuation, heredocs
//! (`moby/buildkit: frontend/dockerfile/parser/parser.go`).
//!
//! Knows where each character of a statement stands in the text. Knows of instructions only which
//! of them take heredocs.

use super::{
    arguments,
    error::{Fault, NOWHERE},
    split::{self, Flag},
    words::{Empty, Lexer},
};

/// The longest line that BuildKit reads, its newline included (Go's `bufio.MaxScanTokenSize`).
const MAX_LINE: usize = 64 * 1024;

/// A Dockerfile, divided.
#[derive(Debug)]
pub(super) struct Lexed {
    /// The escape character that the `escape` directive chose.
    pub(super) escape: char,
    pub(super) statements: Vec<Statement>,
    /// Where the continuation character stands by which the last statement would go on, had the text
    /// not ended. Comments and empty lines behind it do not end the statement.
    pub(super) unfinished: Option<usize>,
}

/// One instruction with its lines joined, divided into name, flags and the rest.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    /// The line it starts on, from 1.
    pub(super) line: usize,
    /// The whole of it, joined.
    pub(super) joined: Joined,
    /// The name as typed.
    pub(super) name: String,
    /// The flags, unquoted, without the `--` that may end them.
    pub(super) flags: Vec<Flag>,
    /// What follows the flags, without blanks around it.
    pub(super) rest: String,
    /// Where that begins in the joined text.
    pub(super) rest_at: usize,
    pub(super) heredocs: Vec<Heredoc>,
}

/// Lines without their continuation characters, and where they came from.
#[derive(Clone, Debug, Default)]
pub(super) struct Joined {
    pub(super) text: String,
    /// Offsets in the joined text, and in the source, at which a piece begins.
    pieces: Vec<(usize, usize)>,
}

impl Joined {
    /// The offset in the source of an offset in the joined text. That of an end is the place just
    /// behind the character before it.
    pub(super) fn source(&self, at: usize) -> usize {
        let next = self.pieces.partition_point(|&(joined, _)| joined <= at);
        let (joined, source) = next.checked_sub(1).map_or((0, 0), |piece| self.pieces[piece]);
        source + (at - joined)
    }

    /// A fault at an offset in the joined text, at that of the source.
    pub(super) fn locate(&self, fault: Fault) -> Fault {
        Fault { at: self.source(fault.at), ..fault }
    }

    /// The place in the source just behind the character that ends at this offset.
    pub(super) fn source_end(&self, end: usize) -> usize {
        end.checked_sub(1).map_or_else(|| self.source(0), |last| self.source(last) + 1)
    }
}

/// `<<NAME` and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heredoc {
    pub(super) name: String,
    /// Whether variables in it are replaced: no part of the name was quoted.
    pub(super) expand: bool,
    /// `<<-`: tabs at the beginning of its lines do not count.
    pub(super) chomp: bool,
    /// Its lines, verbatim.
    pub(super) content: String,
}

impl Heredoc {
    /// The content as a `COPY` writes it.
    pub(super) fn chomped(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// Divides a text into statements.
pub(super) fn lex(text: &[u8]) -> Result<Lexed, Fault> {
    let mut lines = Lines { text, at: 0, line: 0 };
    let mut directives = Directives { escape: '\\', seen: Vec::new(), done: false };
    let mut statements = Vec::new();
    let mut unfinished = None;

    while let Some(line) = lines.next()? {
        let bytes = trim_newline(line.bytes);
        let (bytes, at) = match bytes.strip_prefix("\u{feff}".as_bytes()) {
            Some(bytes) if line.number == 1 => trim_start(bytes, '\u{feff}'.len_utf8()),
            _ => trim_start(bytes, line.at),
        };
        directives.read(bytes, at)?;
        if bytes.first().is_none_or(|&b| b == b'#') {
            continue;
        }
        let joined;
        (joined, unfinished) = join(&mut lines, bytes, at, directives.escape)?;
        statements.push(statement(&mut lines, joined, line.number, directives.escape)?);
    }
    if statements.is_empty() {
        return Err(Fault::invalid(NOWHERE, "there is no instruction in the file"));
    }
    Ok(Lexed { escape: directives.escape, statements, unfinished })
}

/// Reads the one instruction of an `ONBUILD` trigger.
pub(super) fn lex_trigger(text: &str) -> Result<Statement, Fault> {
    let mut statements = lex(text.as_bytes())?.statements;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        _ => Err(Fault::invalid(0, "an ONBUILD trigger is a single instruction")),
    }
}

struct Line<'a> {
    bytes: &'a [u8],
    at: usize,
    number: usize,
}

struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    /// The next line, with its newline.
    fn next(&mut self) -> Result<Option<Line<'a>>, Fault> {
        let (at, rest) = (self.at, &self.text[self.at..]);
        if rest.is_empty() {
            return Ok(None);
        }
        let newline = rest.iter().position(|&b| b == b'\n');
        let length = newline.map_or(rest.len(), |newline| newline + 1);
        if length + usize::from(newline.is_none()) > MAX_LINE {
            return Err(Fault::invalid(at, "the line is longer than 65535 bytes"));
        }
        self.at += length;
        self.line += 1;
        Ok(Some(Line { bytes: &rest[..length], at, number: self.line }))
    }
}

/// The directives at the top of the file: `# escape=`, `# syntax=`, `# check=`.
struct Directives {
    escape: char,
    seen: Vec<String>,
    done: bool,
}

impl Directives {
    fn read(&mut self, line: &[u8], at: usize) -> Result<(), Fault> {
        if self.done {
            return Ok(());
        }
        let Some((name, value)) = directive(line, "#") else {
            self.done = true;
            return Ok(());
        };
        if self.seen.contains(&name) {
            return Err(Fault::invalid(at, format!("the directive `{name}` stands here twice")));
        }
        if name == "escape" {
            self.escape = match value {
                b"\\" => '\\',
                b"`" => '`',
                _ => {
                    return Err(Fault::invalid(at, "the escape character is `\\` or a backtick"));
                }
            };
        }
        self.seen.push(name);
        Ok(())
    }
}

/// The lower-case name and the value of a directive, if the line is one.
pub(super) fn directive<'a>(line: &'a [u8], comment: &str) -> Option<(String, &'a [u8])> {
    let line = line.strip_prefix(comment.as_bytes())?;
    let (line, _) = trim_start(line, 0);
    let equals = line.iter().position(|&b| b == b'=')?;
    let (name, value) = (line[..equals].trim_ascii_end(), &line[equals + 1..]);
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    (["syntax", "escape", "check"].contains(&name.as_str()) && !value.is_empty())
        .then_some((name, value.trim_ascii()))
}

/// Joins a line with those that continue it, and says where the last continuation character is if the
/// text ended before they did.
fn join(
    lines: &mut Lines<'_>,
    first: &[u8],
    at: usize,
    escape: char,
) -> Result<(Joined, Option<usize>), Fault> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut pieces = Vec::new();
    let (piece, mut more) = trim_continuation(first, escape);
    let mut end = at + piece.len();
    pieces.push((0, at));
    bytes.extend_from_slice(piece);
    while more {
        let Some(line) = lines.next()? else { break };
        let content = trim_newline(line.bytes);
        let start = trim_start(content, 0).0.first();
        if start.is_none_or(|&b| b == b'#') {
            continue; // a comment, or empty
        }
        let piece;
        (piece, more) = trim_continuation(content, escape);
        end = line.at + piece.len();
        pieces.push((bytes.len(), line.at));
        bytes.extend_from_slice(piece);
    }
    let mut joined = Joined { text: String::new(), pieces };
    match String::from_utf8(bytes) {
        Ok(text) => joined.text = text,
        Err(error) => {
            let at = joined.source(error.utf8_error().valid_up_to());
            return Err(Fault::not_understood(at, "this is not UTF-8 text"));
        }
    }
    Ok((joined, more.then_some(end)))
}

/// The statement of joined lines, and its heredocs, which are the lines that follow.
fn statement(
    lines: &mut Lines<'_>,
    joined: Joined,
    line: usize,
    escape: char,
) -> Result<Statement, Fault> {
    let divide = |text: &str| -> Result<_, Fault> {
        let split = split::split(text, escape)?;
        let announced = if text.contains("<<") && takes_heredocs(&split, escape)? {
            names(text)?
        } else {
            Vec::new()
        };
        Ok((split, announced))
    };
    let (split, mut heredocs) = divide(&joined.text).map_err(|fault| joined.locate(fault))?;
    for heredoc in &mut heredocs {
        read(lines, heredoc, joined.source(0))?;
    }
    let split::Split { name, flags, rest, rest_at } = split;
    Ok(Statement { line, joined, name, flags, rest, rest_at, heredocs })
}

/// `ADD`, `COPY` and `RUN` take heredocs, unless their arguments are a JSON array; and so does an
/// `ONBUILD` of them.
fn takes_heredocs(split: &split::Split, escape: char) -> Result<bool, Fault> {
    if split.name.eq_ignore_ascii_case("onbuild") {
        let trigger = split::split(&split.rest, escape)?;
        return Ok(is_named_for_heredocs(&trigger)
            && arguments::json(&trigger.rest, split.rest_at)?.is_none());
    }
    Ok(is_named_for_heredocs(split) && arguments::json(&split.rest, split.rest_at)?.is_none())
}

fn is_named_for_heredocs(split: &split::Split) -> bool {
    ["add", "copy", "run"].iter().any(|name| split.name.eq_ignore_ascii_case(name))
}

/// The heredocs that a line announces, in order, without their content.
fn names(line: &str) -> Result<Vec<Heredoc>, Fault> {
    let lexer = Lexer { raw_quotes: true, raw_escapes: true, skip_unset: true, ..Lexer::new('\\') };
    // BuildKit ignores an error here: such a line has none.
    let words = lexer.words(line, &Empty).unwrap_or_default();
    words.iter().filter_map(|word| heredoc(word).transpose()).collect()
}

/// The heredoc that a word announces: `<<NAME`, `<<-NAME`, `3<<NAME`.
pub(super) fn heredoc(word: &str) -> Result<Option<Heredoc>, Fault> {
    let Some(rest) = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")
    else {
        return Ok(None);
    };
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let lexer = Lexer { skip_unset: true, ..Lexer::new('\\') };
    let words = |lexer: Lexer| {
        lexer.words(rest, &Empty).map_err(|error| Fault {
            kind: error.kind,
            at: 0,
            message: error.message,
        })
    };
    let plain = words(lexer)?;
    let [name] = plain.as_slice() else { return Ok(None) };
    let raw = words(Lexer { raw_quotes: true, ..lexer })?;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    let expand = raw.first().is_some_and(|raw| quotes(raw) == quotes(name));
    Ok(Some(Heredoc { name: name.clone(), expand, chomp, content: String::new() }))
}

/// Reads the lines of a heredoc.
fn read(lines: &mut Lines<'_>, heredoc: &mut Heredoc, at: usize) -> Result<(), Fault> {
    while let Some(line) = lines.next()? {
        let mut end = trim_newline(line.bytes);
        if heredoc.chomp {
            let tabs = end.iter().take_while(|&&b| b == b'\t').count();
            end = &end[tabs..];
        }
        if end == heredoc.name.as_bytes() {
            return Ok(());
        }
        let content = std::str::from_utf8(line.bytes).map_err(|error| {
            Fault::not_understood(line.at + error.valid_up_to(), "this is not UTF-8 text")
        })?;
        heredoc.content.push_str(content);
    }
    Err(Fault::invalid(at, format!("no line `{}` ends the here-document", heredoc.name)))
}

fn trim_newline(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|b| !matches!(b, b'\r' | b'\n')).map_or(0, |last| last + 1);
    &line[..end]
}

/// The line without the blanks at its beginning, and where it then begins.
fn trim_start(line: &[u8], at: usize) -> (&[u8], usize) {
    let text = line.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let blanks = text.len() - text.trim_start().len();
    (&line[blanks..], at + blanks)
}

/// The line without its continuation character, if it has one: an escape character, not behind
/// another, with nothing but spaces and tabs behind it.
fn trim_continuation(line: &[u8], escape: char) -> (&[u8], bool) {
    let end = line.iter().rposition(|b| !matches!(b, b' ' | b'\t')).map_or(0, |last| last + 1);
    match line[..end].strip_suffix(&[escape as u8]) {
        Some(rest) if rest.last() != Some(&(escape as u8)) => (rest, true),
        _ => (line, false),
    }
}
