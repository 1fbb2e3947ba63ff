//! What `ADD` and `COPY` read and fetch.

use super::{Evaluation, Expansion, State, texts};
use crate::dockerfile::{
    Effect, Feature, GitSource, ReadKind, Remote, RemoteKind,
    arguments::Word,
    canonical::Line,
    error::Fault,
    instruction::{Instruction, Transfer},
    lex::Heredoc,
    paths,
    stages::Source,
    words::{Lexer, WordError},
};

impl Evaluation<'_> {
    pub(super) fn transfer(
        &mut self,
        state: &State,
        transfer: &Transfer,
        instruction: &Instruction,
        name: &str,
    ) -> Result<String, Fault> {
        let Instruction { line, at, .. } = *instruction;
        self.transfer_features(transfer);
        let origin = match &transfer.from {
            Some(origin) => Some(self.graph.copy_from(state.index, origin, at)?),
            None => None,
        };
        let sources = self.expand_all(state, &transfer.sources)?;
        match &sources {
            Ok(sources) if name == "ADD" => self.add(state, transfer, sources, line)?,
            Ok(sources) => self.copy(transfer, sources, origin.as_ref(), line)?,
            Err(variable) => {
                let reason = format!(
                    "the sources of this {name} depend on `{variable}`, which the base sets in a \
                     way that is not known"
                );
                match &origin {
                    None => {
                        self.read_all(line, reason.as_str());
                        if name == "ADD" {
                            self.widen(line, Effect::NotSkippable, reason);
                        }
                    }
                    Some(Source::Context(context, _)) => {
                        self.read(Some(context.clone()), line, ReadKind::All);
                    }
                    Some(_) => {}
                }
            }
        }

        let flags = [&transfer.chown, &transfer.chmod, &transfer.checksum];
        let others = flags.into_iter().flatten().chain(&transfer.destination);
        let others = self.expand_all(state, others)?;
        let heredocs = self.heredocs(state, &transfer.heredocs, at)?;
        let from = origin.map(|origin| self.origin(&origin));
        let (Ok(sources), Ok(others), Ok(heredocs)) = (sources, others, heredocs) else {
            return Ok(transfer_text(self.unexpanded(name), transfer, from.as_deref()));
        };
        let mut others = others.into_iter();
        let mut take = |word: &Option<Word>| word.as_ref().and_then(|_| others.next());
        let expanded = Transfer {
            sources,
            heredocs,
            chown: take(&transfer.chown),
            chmod: take(&transfer.chmod),
            checksum: take(&transfer.checksum),
            destination: take(&transfer.destination),
            ..transfer.clone()
        };
        Ok(transfer_text(Line::new(name), &expanded, from.as_deref()))
    }

    fn transfer_features(&mut self, transfer: &Transfer) {
        let Transfer { heredocs, chmod, link, parents, exclude, checksum, unpack, .. } = transfer;
        let features = [
            (Feature::Heredoc, !heredocs.is_empty()),
            (Feature::Chmod, chmod.is_some()),
            (Feature::Link, *link),
            (Feature::Parents, *parents),
            (Feature::Exclude, !exclude.is_empty()),
            (Feature::AddChecksum, checksum.is_some()),
            (Feature::AddUnpack, unpack.is_some()),
        ];
        let used = features.into_iter().filter_map(|(feature, used)| used.then_some(feature));
        self.slice.features.extend(used);
    }

    fn copy(
        &mut self,
        transfer: &Transfer,
        sources: &[Word],
        origin: Option<&Source>,
        line: usize,
    ) -> Result<(), Fault> {
        for Word { text, at } in sources {
            let git = GitSource::parse(text).map_err(|why| Fault::not_understood(*at, why))?;
            if git.is_some() || is_url(text) {
                return Err(Fault::invalid(*at, "COPY cannot fetch; use ADD"));
            }
        }
        let context = match origin {
            None => None,
            Some(Source::Context(name, _)) => Some(name.clone()),
            Some(_) => return Ok(()),
        };
        self.read_sources(context, transfer, texts(sources), line);
        Ok(())
    }

    fn read_sources<'w>(
        &mut self,
        context: Option<String>,
        transfer: &Transfer,
        sources: impl Iterator<Item = &'w str>,
        line: usize,
    ) {
        // With `--parents`, a `/./` divides a source, which cleaning would take out.
        let clean = |source: &'w str| match transfer.parents {
            true => source.to_owned(),
            false => paths::in_root(source),
        };
        let sources: Vec<String> = sources.map(clean).collect();
        if sources.is_empty() {
            return;
        }
        let exclude =
            transfer.exclude.iter().filter(|pattern| !pattern.contains('$')).cloned().collect();
        let kind = ReadKind::Copy { sources, parents: transfer.parents, exclude };
        self.read(context, line, kind);
    }

    fn add(
        &mut self,
        state: &State,
        transfer: &Transfer,
        sources: &[Word],
        line: usize,
    ) -> Result<(), Fault> {
        let checksum = match &transfer.checksum {
            Some(word) => Some(self.expand(state, word)?.map_err(|variable| {
                Fault::not_understood(word.at, format!("`{variable}` of the base is not known"))
            })?),
            None => None,
        };
        let mut local = Vec::new();
        for Word { text, at } in sources {
            let kind = match GitSource::parse(text)
                .map_err(|why| Fault::not_understood(*at, why))?
            {
                Some(mut git) => {
                    self.slice.features.insert(Feature::AddGit);
                    let flag = checksum.as_ref().map(|word| word.text.clone());
                    if let (Some(a), Some(b)) = (&flag, &git.checksum)
                        && a != b
                    {
                        return Err(Fault::invalid(*at, "there are two checksums, which differ"));
                    }
                    git.checksum = git.checksum.or(flag);
                    RemoteKind::Git(git)
                }
                None if is_url(text) => {
                    RemoteKind::Http { checksum: checksum.as_ref().map(|word| word.text.clone()) }
                }
                None => {
                    local.push(text.as_str());
                    continue;
                }
            };
            self.slice.remotes.push(Remote { line, source: text.clone(), kind });
        }
        if let Some(checksum) = &checksum
            && (sources.len() != 1 || !local.is_empty())
        {
            return Err(Fault::invalid(checksum.at, "--checksum is for one URL or repository"));
        }
        self.read_sources(None, transfer, local.into_iter(), line);
        Ok(())
    }

    fn heredocs(
        &mut self,
        state: &State,
        heredocs: &[Heredoc],
        at: usize,
    ) -> Result<Expansion<Vec<Heredoc>>, Fault> {
        // Always with a backslash, whatever the escape directive says.
        let lexer = Lexer { skip_quotes: true, ..Lexer::new('\\') };
        let mut result = Vec::new();
        for heredoc in heredocs {
            if !heredoc.expand {
                result.push(heredoc.clone());
                continue;
            }
            let expansion = lexer.word(&heredoc.content, &state.variables).map_err(
                |WordError { kind, message }| Fault {
                    kind,
                    at,
                    message: format!("the here-document `{}`: {message}", heredoc.name),
                },
            )?;
            if let Some(variable) = expansion.unknown {
                return Ok(Err(variable));
            }
            result.push(Heredoc { content: expansion.text, ..heredoc.clone() });
        }
        Ok(Ok(result))
    }
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

fn transfer_text(mut line: Line, transfer: &Transfer, from: Option<&str>) -> String {
    let text = |word: &Option<Word>| word.as_ref().map(|word| word.text.clone());
    if let Some(from) = from {
        line.push(&format!("--from={from}"));
    }
    line.flag("chown", text(&transfer.chown).as_deref());
    line.flag("chmod", text(&transfer.chmod).as_deref());
    line.flag("checksum", text(&transfer.checksum).as_deref());
    line.switch("link", transfer.link);
    line.switch("parents", transfer.parents);
    let switches = [("keep-git-dir", transfer.keep_git_dir), ("unpack", transfer.unpack)];
    for (name, value) in switches {
        line.flag(name, value.map(|value| value.to_string()).as_deref());
    }
    transfer.exclude.iter().for_each(|pattern| line.flag("exclude", Some(pattern)));
    line.words(texts(&transfer.sources));
    transfer.heredocs.iter().for_each(|heredoc| line.heredoc(heredoc, &heredoc.content));
    line.words(transfer.destination.as_ref().map(|word| word.text.as_str()));
    line.finish()
}
