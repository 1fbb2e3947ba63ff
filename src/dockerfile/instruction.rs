//! From statements to instructions with typed arguments
//! (`moby/buildkit: frontend/dockerfile/instructions/parse.go`).
//!
//! Words are not expanded here: that needs to know what stands before. Every offset is that of the
//! source.

use super::{
    arguments::{self, Pair, Word},
    error::Fault,
    flags::{
        Flags,
        Takes::{self, Bool, Many, One},
    },
    lex::{self, Heredoc, Statement},
    mount::{Mount, Origin},
    split,
};

/// One instruction.
#[derive(Clone, Debug)]
pub(super) struct Instruction {
    /// The line it starts on, from 1.
    pub(super) line: usize,
    /// Where it begins in the source.
    pub(super) at: usize,
    pub(super) kind: Kind,
}

/// What an instruction does.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Add(Transfer),
    Arg(Vec<Argument>),
    Cmd(Command),
    Copy(Transfer),
    Entrypoint(Command),
    Env(Vec<Pair>),
    Expose(Vec<Word>),
    From(From),
    Healthcheck(Health),
    Label(Vec<Pair>),
    Maintainer(Word),
    Onbuild(String),
    Run(Run),
    Shell(Vec<String>),
    Stopsignal(Word),
    User(Word),
    Volume(Vec<Word>),
    Workdir(Word),
}

/// `FROM`.
#[derive(Clone, Debug)]
pub(super) struct From {
    pub(super) base: Word,
    /// Where the base ends in the source.
    pub(super) base_end: usize,
    pub(super) platform: Option<Word>,
    /// In lower case.
    pub(super) name: Option<String>,
}

/// One name of an `ARG`.
#[derive(Clone, Debug)]
pub(super) struct Argument {
    pub(super) name: String,
    pub(super) default: Option<Word>,
}

/// `ADD` or `COPY`.
#[derive(Clone, Debug, Default)]
pub(super) struct Transfer {
    pub(super) sources: Vec<Word>,
    pub(super) heredocs: Vec<Heredoc>,
    pub(super) destination: Option<Word>,
    pub(super) from: Option<Origin>,
    pub(super) chown: Option<Word>,
    pub(super) chmod: Option<Word>,
    pub(super) checksum: Option<Word>,
    pub(super) exclude: Vec<String>,
    pub(super) link: bool,
    pub(super) parents: bool,
    pub(super) keep_git_dir: Option<bool>,
    pub(super) unpack: Option<bool>,
}

/// `RUN`.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) command: Command,
    pub(super) mounts: Vec<Mount>,
    pub(super) devices: Vec<String>,
    pub(super) network: Option<String>,
    pub(super) security: Option<String>,
}

/// What is executed.
#[derive(Clone, Debug)]
pub(super) enum Command {
    /// A JSON array: the arguments as they are.
    Exec(Vec<String>),
    /// Text for the shell.
    Shell { text: String, heredocs: Vec<Heredoc> },
}

/// `HEALTHCHECK`.
#[derive(Clone, Debug)]
pub(super) enum Health {
    None,
    Command { options: Vec<(&'static str, String)>, command: Command },
}

const HEALTH_OPTIONS: [(&str, Takes); 5] = [
    ("interval", One),
    ("retries", One),
    ("start-interval", One),
    ("start-period", One),
    ("timeout", One),
];

/// Reads a statement.
pub(super) fn read(statement: &Statement, escape: char) -> Result<Instruction, Fault> {
    let reader = Reader { statement, escape, at: statement.joined.source(0) };
    Ok(Instruction { line: statement.line, at: reader.at, kind: reader.kind()? })
}

struct Reader<'a> {
    statement: &'a Statement,
    escape: char,
    at: usize,
}

impl Reader<'_> {
    fn kind(&self) -> Result<Kind, Fault> {
        let name = self.statement.name.to_ascii_uppercase();
        let name = name.as_str();
        Ok(match name {
            "ADD" | "COPY" => self.transfer(name)?,
            "ARG" => Kind::Arg(self.arguments()?),
            "CMD" => Kind::Cmd(self.no_flags(name)?.command()?),
            "ENTRYPOINT" => Kind::Entrypoint(self.no_flags(name)?.command()?),
            "ENV" => Kind::Env(self.no_flags(name)?.pairs(name)?),
            "EXPOSE" => Kind::Expose(self.no_flags(name)?.some(name, self.blanks())?),
            "FROM" => Kind::From(self.from()?),
            "HEALTHCHECK" => Kind::Healthcheck(self.health()?),
            "LABEL" => Kind::Label(self.no_flags(name)?.pairs(name)?),
            "MAINTAINER" => Kind::Maintainer(self.no_flags(name)?.whole(name)?),
            "ONBUILD" => Kind::Onbuild(self.no_flags(name)?.onbuild()?),
            "RUN" => Kind::Run(self.run()?),
            "SHELL" => Kind::Shell(self.no_flags(name)?.shell()?),
            "STOPSIGNAL" => Kind::Stopsignal(self.whole(name)?),
            "USER" => Kind::User(self.no_flags(name)?.whole(name)?),
            "VOLUME" => Kind::Volume(self.no_flags(name)?.volumes()?),
            "WORKDIR" => Kind::Workdir(self.no_flags(name)?.whole(name)?),
            _ => {
                let typed = &self.statement.name;
                return Err(Fault::not_understood(
                    self.at,
                    format!("`{typed}` is not an instruction that is known here"),
                ));
            }
        })
    }

    fn flags(&self, name: &str, known: &[(&'static str, Takes)]) -> Result<Flags, Fault> {
        Flags::read(&self.statement.flags, &self.statement.joined, name, known)
    }

    fn no_flags(&self, name: &str) -> Result<&Self, Fault> {
        self.flags(name, &[]).map(|_| self)
    }

    /// Offsets of the statement become those of the source.
    fn located(&self, mut word: Word) -> Word {
        word.at = self.statement.joined.source(word.at);
        word
    }

    fn rest(&self) -> &str {
        &self.statement.rest
    }

    fn rest_at(&self) -> usize {
        self.statement.joined.source(self.statement.rest_at)
    }

    fn blanks(&self) -> Vec<Word> {
        let words = arguments::blanks(self.rest(), self.statement.rest_at);
        words.into_iter().map(|word| self.located(word)).collect()
    }

    fn some(&self, name: &str, words: Vec<Word>) -> Result<Vec<Word>, Fault> {
        if words.is_empty() {
            return Err(Fault::invalid(self.at, format!("{name} needs an argument")));
        }
        Ok(words)
    }

    fn json(&self) -> Result<Option<Vec<String>>, Fault> {
        arguments::json(self.rest(), self.rest_at())
    }

    /// The arguments of an instruction that takes a JSON array or words between blanks.
    fn list(&self) -> Result<Vec<Word>, Fault> {
        let at = self.rest_at();
        Ok(match self.json()? {
            Some(texts) => texts.into_iter().map(|text| Word { text, at }).collect(),
            None => self.blanks(),
        })
    }

    /// The one argument of an instruction that takes all of the line.
    fn whole(&self, name: &str) -> Result<Word, Fault> {
        if self.rest().is_empty() {
            return Err(Fault::invalid(self.at, format!("{name} needs an argument")));
        }
        Ok(Word { text: self.rest().to_owned(), at: self.rest_at() })
    }

    fn pairs(&self, name: &str) -> Result<Vec<Pair>, Fault> {
        let pairs = arguments::pairs(self.rest(), self.statement.rest_at, self.escape, name)
            .map_err(|fault| self.statement.joined.locate(fault))?;
        let located =
            |Pair { name, value }| Pair { name: self.located(name), value: self.located(value) };
        Ok(pairs.into_iter().map(located).collect())
    }

    fn command(&self) -> Result<Command, Fault> {
        Ok(match self.json()? {
            Some(arguments) => Command::Exec(arguments),
            None => Command::Shell {
                text: self.rest().to_owned(),
                heredocs: self.statement.heredocs.clone(),
            },
        })
    }

    fn arguments(&self) -> Result<Vec<Argument>, Fault> {
        let words = arguments::quoted(self.rest(), self.statement.rest_at, self.escape);
        self.some("ARG", words)?
            .into_iter()
            .map(|word| {
                let word = self.located(word);
                let name = word.text.split('=').next().unwrap_or_default();
                if name.contains(['$', '\'', '"', self.escape]) {
                    return Err(Fault::not_understood(
                        word.at,
                        format!("versions of the frontend differ about the ARG name `{name}`"),
                    ));
                }
                match word.text.split_once('=') {
                    None => Ok(Argument { name: word.text, default: None }),
                    Some(("", _)) => Err(Fault::invalid(word.at, "an ARG needs a name")),
                    Some((name, default)) => Ok(Argument {
                        name: name.to_owned(),
                        default: Some(Word {
                            text: default.to_owned(),
                            at: word.at + name.len() + 1,
                        }),
                    }),
                }
            })
            .collect()
    }

    fn from(&self) -> Result<From, Fault> {
        let flags = self.flags("FROM", &[("platform", One)])?;
        let words = arguments::blanks(self.rest(), self.statement.rest_at);
        let (base, name) = match words.as_slice() {
            [base] => (base, None),
            [base, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => (base, Some(name)),
            _ => {
                return Err(Fault::invalid(
                    self.at,
                    "FROM takes an image, or an image, `AS` and a name",
                ));
            }
        };
        let name = name.map(|word| {
            let name = word.text.to_lowercase();
            let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
            valid.then_some(name).ok_or_else(|| {
                Fault::invalid(
                    self.statement.joined.source(word.at),
                    format!("`{}` cannot be the name of a stage", word.text),
                )
            })
        });
        Ok(From {
            base_end: self.statement.joined.source_end(base.at + base.text.len()),
            base: self.located(base.clone()),
            platform: flags.word("platform"),
            name: name.transpose()?,
        })
    }

    fn transfer(&self, name: &str) -> Result<Kind, Fault> {
        let add = name == "ADD";
        let own: &[_] = if add {
            &[("keep-git-dir", Bool), ("checksum", One), ("unpack", Bool)]
        } else {
            &[("from", One), ("parents", Bool)]
        };
        let shared = [("chown", One), ("chmod", One), ("link", Bool), ("exclude", Many)];
        let flags = self.flags(name, &[own, shared.as_slice()].concat())?;
        let mut words = self.list()?;
        let Some(destination) = words.pop().filter(|_| !words.is_empty()) else {
            return Err(Fault::invalid(
                self.at,
                format!("{name} needs a source and a destination"),
            ));
        };
        let announced = |word: &Word| lex::heredoc(&word.text).ok().flatten();
        if announced(&destination).is_some() {
            return Err(Fault::invalid(
                destination.at,
                format!("the destination of {name} cannot be a here-document"),
            ));
        }
        let mut transfer = Transfer {
            destination: Some(destination),
            from: flags
                .one("from")
                .map(|value| Origin::new(&value.text, value, value.ends.len().checked_sub(1))),
            chown: flags.word("chown"),
            chmod: flags.word("chmod"),
            checksum: flags.word("checksum"),
            exclude: flags.many("exclude").map(|value| value.text.clone()).collect(),
            link: flags.bool("link").unwrap_or_default(),
            parents: flags.bool("parents").unwrap_or_default(),
            keep_git_dir: flags.bool("keep-git-dir"),
            unpack: flags.bool("unpack"),
            ..Transfer::default()
        };
        for word in words {
            match announced(&word) {
                None => transfer.sources.push(word),
                Some(heredoc) => {
                    let read = self.statement.heredocs.iter().rev();
                    let content = read.clone().find(|read| read.name == heredoc.name);
                    let content = content.map(|read| read.content.clone()).unwrap_or_default();
                    let content = Heredoc { content, ..heredoc.clone() }.chomped();
                    transfer.heredocs.push(Heredoc { content, chomp: false, ..heredoc });
                }
            }
        }
        Ok(if add { Kind::Add(transfer) } else { Kind::Copy(transfer) })
    }

    fn run(&self) -> Result<Run, Fault> {
        let flags = self.flags(
            "RUN",
            &[("mount", Many), ("network", One), ("security", One), ("device", Many)],
        )?;
        let choice = |name, default: &str, others: &[&str]| match flags.one(name) {
            None => Ok(None),
            Some(value) if value.text == default => Ok(None),
            Some(value) if others.contains(&value.text.as_str()) => Ok(Some(value.text.clone())),
            Some(value) => Err(Fault::not_understood(
                value.at,
                format!("`--{name}={}` is not known", value.text),
            )),
        };
        Ok(Run {
            command: self.command()?,
            mounts: flags.many("mount").map(Mount::parse).collect::<Result<_, _>>()?,
            devices: flags.many("device").map(|value| value.text.clone()).collect(),
            network: choice("network", "default", &["none", "host"])?,
            security: choice("security", "sandbox", &["insecure"])?,
        })
    }

    fn health(&self) -> Result<Health, Fault> {
        let blank = |c: char| c.is_ascii_whitespace() || c == '\u{b}';
        let (kind, rest) = self.rest().split_once(blank).unwrap_or((self.rest(), ""));
        let rest = rest.trim_start_matches(blank);
        let command = match arguments::json(rest, self.rest_at())? {
            Some(arguments) => Command::Exec(arguments),
            None => Command::Shell { text: rest.to_owned(), heredocs: Vec::new() },
        };
        let empty = match &command {
            Command::Exec(arguments) => arguments.is_empty(),
            Command::Shell { text, .. } => text.is_empty(),
        };
        match kind.to_ascii_uppercase().as_str() {
            "NONE" if empty => return Ok(Health::None),
            "NONE" => return Err(Fault::invalid(self.at, "HEALTHCHECK NONE takes no arguments")),
            "CMD" if empty => {
                return Err(Fault::invalid(self.at, "HEALTHCHECK CMD needs a command"));
            }
            "CMD" => {}
            _ => return Err(Fault::invalid(self.at, "HEALTHCHECK is followed by CMD or NONE")),
        }
        let flags = self.flags("HEALTHCHECK", &HEALTH_OPTIONS)?;
        let options = HEALTH_OPTIONS
            .iter()
            .filter_map(|&(name, _)| Some((name, flags.one(name)?.text.clone())))
            .collect();
        Ok(Health::Command { options, command })
    }

    fn shell(&self) -> Result<Vec<String>, Fault> {
        match self.json()? {
            Some(words) if !words.is_empty() => Ok(words),
            _ => Err(Fault::invalid(self.at, "SHELL takes a JSON array of strings")),
        }
    }

    fn volumes(&self) -> Result<Vec<Word>, Fault> {
        let mut volumes = self.some("VOLUME", self.list()?)?;
        for volume in &mut volumes {
            volume.text = volume.text.trim().to_owned();
            if volume.text.is_empty() {
                return Err(Fault::invalid(volume.at, "a VOLUME must not be empty"));
            }
        }
        Ok(volumes)
    }

    /// The text that is stored in the image, to be run by those who build on it.
    fn onbuild(&self) -> Result<String, Fault> {
        let statement = self.statement;
        let trigger = statement.rest.split(char::is_whitespace).next().unwrap_or_default();
        match trigger.to_ascii_uppercase().as_str() {
            "" => return Err(Fault::invalid(self.at, "ONBUILD needs an instruction")),
            "ONBUILD" | "FROM" | "MAINTAINER" => {
                return Err(Fault::invalid(
                    self.rest_at(),
                    format!("{trigger} cannot be the trigger of ONBUILD"),
                ));
            }
            "ADD" | "CMD" | "COPY" | "ENTRYPOINT" | "RUN" | "SHELL" | "VOLUME" => {
                let trigger = split::split(&statement.rest, self.escape)
                    .map_err(|fault| Fault { at: self.rest_at(), ..fault })?;
                arguments::json(&trigger.rest, self.rest_at())?;
            }
            _ => {}
        }
        let start = statement.joined.text.trim_start();
        let text = start.get(statement.name.len()..).unwrap_or_default();
        let mut text = text.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']).to_owned();
        for heredoc in &statement.heredocs {
            text.push('\n');
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
        }
        Ok(text)
    }
}
