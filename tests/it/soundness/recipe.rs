//! Dockerfiles as values, and the many ways to write one down.

use std::{collections::BTreeSet, fmt::Write as _};

use fastrand::Rng;

use super::servers::Hosts;

/// One instruction. Words are what formatting may come between; a shell command is one word.
///
/// `@stage2@` stands for the name or the number of a stage, `@registry@` and `@site@` for the
/// hosts of the registry and of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) name: &'static str,
    pub(super) flags: Vec<String>,
    pub(super) words: Vec<String>,
    /// A here-document: its body. The words say `<<EOF` or `<<"EOF"`.
    pub(super) body: Option<String>,
}

impl Instruction {
    pub(super) fn new(name: &'static str, words: &[&str]) -> Self {
        let words = words.iter().map(ToString::to_string).collect();
        Self { name, flags: Vec::new(), words, body: None }
    }

    pub(super) fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    pub(super) fn body(mut self, body: impl Into<String>) -> Self {
        self.body = Some(body.into());
        self
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &String> {
        self.flags.iter().chain(&self.words).chain(&self.body)
    }

    /// What it reads of the context, as far as that is said in words.
    pub(super) fn sources(&self) -> Vec<&str> {
        if self.flags.iter().any(|flag| flag.contains("from=")) {
            return Vec::new();
        }
        match self.name {
            "COPY" | "ADD" => {
                let sources = &self.words[..self.words.len().saturating_sub(1)];
                sources.iter().map(String::as_str).filter(|word| *word != "keep.txt").collect()
            }
            "RUN" => {
                let binds = self.flags.iter().filter(|flag| flag.contains("target=/m"));
                let source = |flag: &'_ str| -> usize {
                    flag.find("source=").map_or(flag.len(), |at| at + 7)
                };
                binds
                    .map(|flag| flag[source(flag)..].split(',').next().unwrap_or_default())
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether it reads of the context more than paths that it names.
    pub(super) fn is_broad(&self) -> bool {
        if self.flags.iter().any(|flag| flag.contains("from=")) {
            return false;
        }
        let broad =
            |text: &str| matches!(text, "." | "./" | "/") || text.contains(['*', '?', '[', '$']);
        match self.name {
            // Words in JSON are one word here.
            "COPY" | "ADD" if self.words.len() == 1 => true,
            "COPY" | "ADD" => self.words[..self.words.len() - 1].iter().any(|word| broad(word)),
            "RUN" => {
                let bind = |flag: &String| flag.contains("type=bind") && !flag.contains("source=");
                self.flags.iter().any(bind)
            }
            _ => false,
        }
    }
}

/// A stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stage {
    /// What it starts from, as `FROM` says it.
    pub(super) base: String,
    pub(super) name: Option<String>,
    pub(super) body: Vec<Instruction>,
    /// Whether its base has a shell, for `RUN`.
    pub(super) shell: bool,
}

/// A Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recipe {
    /// `ARG` before the first `FROM`.
    pub(super) globals: Vec<Instruction>,
    pub(super) stages: Vec<Stage>,
}

/// How a recipe is written; 0 is the plain way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Style {
    /// Comments, blank lines, indentation, continuations.
    pub(super) layout: u64,
    /// Upper and lower case of instructions and stage names.
    pub(super) case: u64,
    /// Whether stages are called by their numbers where that is possible.
    pub(super) numbers: bool,
}

impl Recipe {
    /// The stages that a stage needs, itself among them.
    pub(super) fn reachable(&self, target: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::from([target]);
        let mut next = vec![target];
        while let Some(index) = next.pop() {
            let stage = &self.stages[index];
            let texts = stage.body.iter().flat_map(Instruction::texts).chain([&stage.base]);
            let text: String = texts.fold(String::new(), |all, text| all + text);
            for other in 0..index {
                if text.contains(&format!("@stage{other}@")) && reached.insert(other) {
                    next.push(other);
                }
            }
        }
        reached
    }

    pub(super) fn instructions(&self) -> impl Iterator<Item = &Instruction> {
        self.globals.iter().chain(self.stages.iter().flat_map(|stage| &stage.body))
    }

    /// The stages that can be a target: those with a name.
    pub(super) fn named(&self) -> Vec<usize> {
        (0..self.stages.len()).filter(|index| self.stages[*index].name.is_some()).collect()
    }

    /// The name by which a stage is called.
    pub(super) fn call(&self, index: usize, numbers: bool) -> String {
        let name = self.stages[index].name.clone().filter(|_| !numbers);
        name.unwrap_or_else(|| index.to_string())
    }

    /// Writes it down.
    pub(super) fn text(&self, style: Style, hosts: &Hosts) -> String {
        let mut pen = Pen {
            layout: (style.layout != 0).then(|| Rng::with_seed(style.layout)),
            case: (style.case != 0).then(|| Rng::with_seed(style.case)),
            escape: '\\',
            text: String::new(),
        };
        let backslashes =
            self.instructions().flat_map(Instruction::texts).any(|text| text.contains(['\\', '`']));
        if !backslashes && pen.chance(4) {
            pen.text += "# escape=`\n";
            pen.escape = '`';
        }
        for instruction in &self.globals {
            self.write(&mut pen, instruction, style, hosts);
        }
        for stage in &self.stages {
            let (platform, base) = match stage.base.split_once(' ') {
                Some((platform, base)) => (Some(platform), base),
                None => (None, stage.base.as_str()),
            };
            // A stage is called by its name here: a number would be the name of an image.
            let mut from = Instruction::new("FROM", &[base]);
            from.flags.extend(platform.map(str::to_owned));
            if let Some(name) = &stage.name {
                from.words.extend(["AS".to_owned(), name.clone()]);
            }
            self.write(&mut pen, &from, Style { numbers: false, ..style }, hosts);
            for instruction in &stage.body {
                self.write(&mut pen, instruction, style, hosts);
            }
        }
        let last = self.stages.last().and_then(|stage| stage.body.last());
        // The image shows a trigger with the blank at its end.
        let fits = last.is_some_and(|last| last.body.is_none() && last.name != "ONBUILD");
        if fits && pen.chance(4) {
            // What follows a continued line is a remark, and the text ends before the line does.
            let end = pen.text.trim_end().len();
            pen.text.truncate(end);
            let _ = writeln!(pen.text, " {}\n# The end.", pen.escape);
        }
        let heredoc = self.instructions().any(|instruction| instruction.body.is_some());
        if !heredoc && pen.chance(6) {
            pen.text = pen.text.replace('\n', "\r\n");
        }
        pen.text
    }

    fn write(&self, pen: &mut Pen, instruction: &Instruction, style: Style, hosts: &Hosts) {
        let place = |text: &String, pen: &mut Pen| {
            let mut text = hosts.place(text);
            for index in 0..self.stages.len() {
                let mark = format!("@stage{index}@");
                while text.contains(&mark) {
                    let name = pen.any_case(&self.call(index, style.numbers));
                    text = text.replacen(&mark, &name, 1);
                }
            }
            text
        };
        pen.before();
        let name = pen.any_case(instruction.name);
        pen.text += &name;
        for part in instruction.flags.iter().chain(&instruction.words) {
            let mut part = place(part, pen);
            if part == "AS" {
                part = pen.any_case(&part);
            }
            let gap = if instruction.body.is_some() { " ".to_owned() } else { pen.gap() };
            let _ = write!(pen.text, "{gap}{part}");
        }
        pen.text.push('\n');
        if let Some(body) = &instruction.body {
            let body = place(body, pen);
            let _ = writeln!(pen.text, "{body}EOF");
        }
    }
}

struct Pen {
    layout: Option<Rng>,
    case: Option<Rng>,
    escape: char,
    text: String,
}

impl Pen {
    fn chance(&mut self, of: u8) -> bool {
        self.layout.as_mut().is_some_and(|rng| rng.u8(..of) == 0)
    }

    fn any_case(&mut self, name: &str) -> String {
        match self.case.as_mut().map(|rng| rng.u8(..3)) {
            Some(0) => name.to_lowercase(),
            Some(1) => name.to_uppercase(),
            _ => name.to_owned(),
        }
    }

    /// What may stand before an instruction.
    fn before(&mut self) {
        if self.chance(3) {
            self.text += "\n";
        }
        if self.chance(3) {
            self.text += "  # A remark, FROM nobody.\n";
        }
        if self.chance(3) {
            self.text += " \t ";
        }
    }

    /// What may stand between words.
    fn gap(&mut self) -> String {
        let escape = self.escape;
        match self.layout.as_mut().map(|rng| rng.u8(..8)) {
            Some(0) => "  ".to_owned(),
            Some(1) => "\t".to_owned(),
            Some(2) => format!(" {escape}\n    "),
            Some(3) => format!(" {escape}  \n# A remark in between.\n  "),
            Some(4) => format!(" {escape}\n\n "),
            _ => " ".to_owned(),
        }
    }
}
