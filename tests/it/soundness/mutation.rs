//! One change at a time: what changes, and whether an image may see it.

use fastrand::Rng;

use super::{
    case::{self, Case},
    recipe::Instruction,
    tree::{self, Checkout, Node},
};

/// What an image may see of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Whatever the engine makes of it.
    Open,
    /// Nothing: the key must stay.
    Nothing,
    /// Nothing, since the engine is served other permissions than those on disk: the key must stay,
    /// but a build by another client tells nothing.
    NothingServed,
}

/// A way to change a case.
pub(super) struct Mutation {
    pub(super) name: &'static str,
    /// Makes the change; `None` where the case has no place for it.
    pub(super) apply: fn(&mut Case, &mut Rng) -> Option<Sight>,
}

use Sight::{Nothing, NothingServed, Open};

pub(super) const MUTATIONS: &[Mutation] = &[
    // Files.
    Mutation {
        name: "content",
        apply: |case, rng| file(case, rng, |content, rng| content.push(rng.u8(b'a'..=b'z'))),
    },
    Mutation {
        name: "content, same size",
        apply: |case, rng| file(case, rng, |content, _| content.reverse()),
    },
    Mutation {
        name: "content emptied",
        apply: |case, rng| file(case, rng, |content, _| content.clear()),
    },
    Mutation { name: "contents exchanged", apply: exchange },
    Mutation { name: "byte moved to the next file", apply: shift },
    Mutation {
        name: "file renamed",
        apply: |case, rng| rename(case, rng, |path| format!("{path}.new")),
    },
    Mutation {
        name: "file renamed to a hidden one",
        apply: |case, rng| {
            rename(case, rng, |path| match path.rsplit_once('/') {
                Some((above, name)) => format!("{above}/.{name}"),
                None => format!(".{path}"),
            })
        },
    },
    Mutation {
        name: "file renamed in case only",
        apply: |case, rng| {
            rename(case, rng, |path| {
                let upper = path.to_uppercase();
                match path.rsplit_once('/') {
                    Some((above, name)) => format!("{above}/{}", name.to_uppercase()),
                    None => upper,
                }
            })
        },
    },
    Mutation {
        name: "file moved up",
        apply: |case, rng| {
            rename(case, rng, |path| path.rsplit('/').next().unwrap_or_default().to_owned())
        },
    },
    Mutation {
        name: "file moved down",
        apply: |case, rng| rename(case, rng, |path| format!("moved/{path}")),
    },
    Mutation {
        name: "directory renamed",
        apply: |case, rng| {
            let path = path(case, rng, case.tree.directories())?;
            case.tree.rename(&path, &format!("{path}2"));
            Some(Open)
        },
    },
    Mutation { name: "executable bit", apply: |case, rng| mode(case, rng, 0o111) },
    Mutation { name: "set-user-id bit", apply: |case, rng| mode(case, rng, 0o4000) },
    Mutation {
        name: "file added",
        apply: |case, rng| {
            let mut above = case.tree.directories();
            above.push(String::new());
            let above = pick(rng, &above)?;
            let name = pick(rng, &["added.txt", "added.c", "kept.txt", ".added", "a new one"])?;
            let path = if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
            case.tree.insert(path, Node::file("added\n"));
            Some(Open)
        },
    },
    Mutation {
        name: "file removed",
        apply: |case, rng| {
            let path = path(case, rng, case.tree.files())?;
            case.tree.remove(&path);
            Some(Open)
        },
    },
    Mutation {
        name: "directory removed",
        apply: |case, rng| {
            let path = path(case, rng, case.tree.directories())?;
            case.tree.remove(&path);
            Some(Open)
        },
    },
    Mutation {
        name: "empty directory added",
        apply: |case, rng| {
            let above = path(case, rng, case.tree.directories())?;
            case.tree.insert(format!("{above}/hollow"), Node::Directory);
            Some(Open)
        },
    },
    Mutation {
        name: "file to directory",
        apply: |case, rng| {
            let path = path(case, rng, case.tree.files())?;
            let node = case.tree.get(&path)?.clone();
            case.tree.remove(&path);
            case.tree.insert(format!("{path}/it"), node);
            Some(Open)
        },
    },
    Mutation {
        name: "file to empty directory",
        apply: |case, rng| {
            let path = path(case, rng, case.tree.files())?;
            case.tree.insert(path, Node::Directory);
            Some(Open)
        },
    },
    Mutation {
        name: "file to link to it",
        apply: |case, rng| {
            let path = path(case, rng, case.tree.files())?;
            let name = path.rsplit('/').next()?.to_owned();
            let node = case.tree.get(&path)?.clone();
            case.tree.insert(format!("{path}.real"), node);
            case.tree.insert(path, Node::Link(format!("{name}.real")));
            Some(Open)
        },
    },
    Mutation {
        name: "directory to link to it",
        apply: |case, rng| {
            let path = path(case, rng, case.tree.directories())?;
            let name = path.rsplit('/').next()?.to_owned();
            case.tree.rename(&path, &format!("{path}.real"));
            case.tree.insert(path, Node::Link(format!("{name}.real")));
            Some(Open)
        },
    },
    Mutation {
        name: "link to what it leads to",
        apply: |case, rng| {
            let path = pick(rng, &case.tree.links())?;
            case.tree.insert(path, Node::file("once a link\n"));
            Some(Open)
        },
    },
    Mutation {
        name: "link leads elsewhere",
        apply: |case, rng| {
            let path = pick(rng, &case.tree.links())?;
            let (_, target) = tree::link(rng, &case.tree);
            case.tree.insert(path, Node::Link(target));
            Some(Open)
        },
    },
    Mutation {
        name: "link added",
        apply: |case, rng| {
            let (path, target) = tree::link(rng, &case.tree);
            case.tree.insert(format!("{path}{}", rng.u8(..9)), Node::Link(target));
            Some(Open)
        },
    },
    Mutation {
        name: "file that nothing reads",
        apply: |case, rng| {
            let path = pick(rng, &["aside/notes.txt", "aside/more.txt"])?;
            case.tree.insert(path, Node::file(format!("{}\n", rng.u32(..))));
            Some(if case.reads_broadly() { Open } else { Nothing })
        },
    },
    Mutation {
        name: "file that is ignored",
        apply: |case, rng| {
            // In both: the last word of the ignore file is that it is out.
            let lines = case.own_ignore.as_ref().or(case.ignore.as_ref())?;
            if lines.last()? != "Dockerfile*" || lines.iter().any(|line| line.starts_with('!')) {
                return None;
            }
            case.tree.insert("Dockerfile.notes", Node::file(format!("{}\n", rng.u32(..))));
            Some(if case.reads_broadly() { Open } else { Nothing })
        },
    },
    // Ignore files.
    Mutation {
        name: "ignore line added",
        apply: |case, rng| {
            let line = case::ignore_line(rng, &case.tree, case.features);
            let lines = case.ignore.get_or_insert_default();
            lines.insert(rng.usize(..=lines.len()), line);
            Some(Open)
        },
    },
    Mutation {
        name: "ignore line removed",
        apply: |case, rng| {
            let lines = case.ignore.as_mut().filter(|lines| !lines.is_empty())?;
            lines.remove(rng.usize(..lines.len()));
            Some(Open)
        },
    },
    Mutation {
        name: "ignore lines in another order",
        apply: |case, rng| {
            rng.shuffle(case.ignore.as_mut()?);
            Some(Open)
        },
    },
    Mutation {
        name: "ignore line negated",
        apply: |case, rng| {
            let lines = case.ignore.as_mut().filter(|lines| !lines.is_empty())?;
            let at = rng.usize(..lines.len());
            lines[at] = match lines[at].strip_prefix('!') {
                Some(line) => line.to_owned(),
                None if !case.features.exceptions => return None,
                None => format!("!{}", lines[at]),
            };
            Some(Open)
        },
    },
    Mutation {
        name: "remark in the ignore file",
        apply: |case, _| {
            case.ignore.as_mut()?.splice(0..0, ["# a remark".to_owned(), String::new()]);
            Some(if case.reads_broadly() { Open } else { Nothing })
        },
    },
    Mutation {
        name: "ignore file of the Dockerfile",
        apply: |case, rng| {
            case.own_ignore = Some(case::ignore(rng, &case.tree, case.features));
            Some(Open)
        },
    },
    Mutation {
        name: "ignore file moved to the Dockerfile",
        apply: |case, _| {
            case.own_ignore = Some(case.ignore.clone().filter(|_| case.own_ignore.is_none())?);
            Some(if case.inside && case.reads_broadly() { Open } else { Nothing })
        },
    },
    // Arguments and options.
    Mutation {
        name: "argument given",
        apply: |case, rng| {
            let name = pick(rng, &["A", "B", "VERSION", "DEST", "who"])?;
            case.arguments.insert(name.to_owned(), format!("new{}", rng.u8(..)));
            Some(Open)
        },
    },
    Mutation {
        name: "base by argument",
        apply: |case, _| {
            let base = |it: &&mut Instruction| it.words[0].starts_with("BASE=");
            let base = instructions(case).find(base)?.words[0].replace("/base:1", "/tools:1");
            case.arguments.insert("BASE".to_owned(), base.strip_prefix("BASE=")?.to_owned());
            Some(Open)
        },
    },
    Mutation {
        name: "argument no longer given",
        apply: |case, rng| {
            let names: Vec<String> = case.arguments.keys().cloned().collect();
            case.arguments.remove(&pick(rng, &names)?);
            Some(Open)
        },
    },
    Mutation {
        name: "argument that nobody declares",
        apply: |case, _| {
            case.arguments.insert("NOBODY".to_owned(), "x".to_owned());
            Some(Nothing)
        },
    },
    Mutation {
        name: "proxy argument",
        apply: |case, _| {
            case.arguments.insert("http_proxy".to_owned(), "http://127.0.0.1:9".to_owned());
            Some(Nothing)
        },
    },
    Mutation {
        name: "default of an argument",
        apply: |case, rng| {
            let arguments =
                instructions(case).filter(|it| it.name == "ARG" && !it.words[0].contains('@'));
            let argument = pick_mut(rng, arguments)?;
            let name = argument.words[0].split('=').next()?.to_owned();
            argument.words[0] = format!("{name}=other{}", rng.u8(..9));
            Some(Open)
        },
    },
    Mutation {
        name: "label of the command line",
        apply: |case, rng| {
            case.labels.insert("given".to_owned(), rng.u8(..).to_string());
            Some(Open)
        },
    },
    Mutation {
        name: "target",
        apply: |case, rng| {
            case.target = Some(pick(rng, &case.recipe.named())?);
            Some(Open)
        },
    },
    Mutation {
        name: "target named",
        apply: |case, _| {
            case.target = Some(case.goal());
            let known = text_of(case).contains("TARGETSTAGE");
            case.recipe.named().contains(&case.goal()).then_some(if known { Open } else { Nothing })
        },
    },
    // Images of the registry.
    Mutation {
        name: "image moved",
        apply: |case, rng| {
            pick_mut(rng, case.images.values_mut())?.content += "moved\n";
            Some(Open)
        },
    },
    Mutation {
        name: "variable of an image",
        apply: |case, rng| {
            let value = format!("moved{}", rng.u8(..));
            pick_mut(rng, case.images.values_mut())?.env.insert("A".to_owned(), value);
            Some(Open)
        },
    },
    Mutation {
        name: "label of an image",
        apply: |case, rng| {
            pick_mut(rng, case.images.values_mut())?.label = Some("moved".to_owned());
            Some(Open)
        },
    },
    Mutation {
        name: "trigger added",
        apply: |case, rng| {
            let trigger = case::trigger(rng);
            pick_mut(rng, case.images.values_mut())?.triggers.push(trigger);
            Some(Open)
        },
    },
    Mutation {
        name: "trigger removed",
        apply: |case, rng| {
            let images = case.images.values_mut().filter(|image| !image.triggers.is_empty());
            pick_mut(rng, images)?.triggers.pop();
            Some(Open)
        },
    },
    Mutation {
        name: "image that nobody uses",
        apply: |case, _| {
            let seen = case.text("").contains("/tools:1");
            let mut tools = case.images.iter_mut().filter(|(name, _)| name.ends_with("tools"));
            tools.next().filter(|_| !seen)?.1.content += "moved\n";
            Some(Nothing)
        },
    },
    // The text of the Dockerfile.
    Mutation {
        name: "instruction removed",
        apply: |case, rng| {
            let stage = stage(case, rng, None)?;
            stage.remove(rng.usize(..stage.len()));
            Some(Open)
        },
    },
    Mutation {
        name: "instruction doubled",
        apply: |case, rng| {
            let stage = stage(case, rng, None)?;
            let at = rng.usize(..stage.len());
            stage.insert(at, stage[at].clone());
            Some(Open)
        },
    },
    Mutation {
        name: "instructions in another order",
        apply: |case, rng| {
            let stage = stage(case, rng, None)?;
            let at = rng.usize(1..stage.len().max(2));
            (at < stage.len()).then(|| stage.swap(at - 1, at))?;
            Some(Open)
        },
    },
    Mutation {
        name: "instruction moved to another stage",
        apply: |case, rng| {
            let moved = {
                let stage = stage(case, rng, None)?;
                stage.pop()?
            };
            if moved.texts().any(|text| text.contains("@stage")) {
                return None;
            }
            stage(case, rng, None)?.push(moved);
            Some(Open)
        },
    },
    Mutation {
        name: "destination",
        apply: |case, rng| {
            let copies = instructions(case)
                .filter(|it| matches!(it.name, "COPY" | "ADD") && it.words.len() > 1);
            let to = pick_mut(rng, copies)?.words.last_mut()?;
            *to = format!("/other{to}");
            Some(Open)
        },
    },
    Mutation {
        name: "slash at the end of a destination",
        apply: |case, rng| {
            let copies = instructions(case)
                .filter(|it| matches!(it.name, "COPY" | "ADD") && it.words.len() > 1);
            let to = pick_mut(rng, copies)?.words.last_mut()?;
            *to = match to.strip_suffix('/') {
                Some(to) => to.to_owned(),
                None => format!("{to}/"),
            };
            Some(Open)
        },
    },
    Mutation {
        name: "source of a copy",
        apply: |case, rng| {
            let copies = instructions(case)
                .filter(|it| matches!(it.name, "COPY" | "ADD") && it.words.len() > 1);
            let from = &mut pick_mut(rng, copies.filter(|it| it.flags.is_empty()))?.words[0];
            pick(rng, &["keep.txt", "src", "src/main.c", "s*", "."])?.clone_into(from);
            Some(Open)
        },
    },
    Mutation {
        name: "source said otherwise",
        apply: |case, rng| {
            let copies = instructions(case).filter(|it| it.name == "COPY" && it.words.len() == 2);
            let from = &mut pick_mut(rng, copies.filter(|it| it.flags.is_empty()))?.words[0];
            *from = format!("./{}", from.trim_start_matches("./").trim_start_matches('/'));
            Some(Open)
        },
    },
    Mutation {
        name: "mode of a copy",
        apply: |case, rng| flag(case, rng, "COPY", "--chmod=", &["0600", "0755", "0640"]),
    },
    Mutation {
        name: "owner of a copy",
        apply: |case, rng| flag(case, rng, "COPY", "--chown=", &["1:2", "3:4", "0:0"]),
    },
    Mutation {
        name: "source of a mount",
        apply: |case, rng| {
            let mounts =
                instructions(case).filter(|it| it.flags.iter().any(|f| f.contains("source=")));
            let mount = pick_mut(rng, mounts)?;
            let flag = pick_mut(rng, mount.flags.iter_mut())?;
            *flag = flag.replace("source=src", "source=lib").replace("source=/out", "source=/");
            Some(Open)
        },
    },
    Mutation {
        name: "target of a mount",
        apply: |case, rng| {
            let mounts =
                instructions(case).filter(|it| it.flags.iter().any(|f| f.contains("target=/")));
            let mount = pick_mut(rng, mounts)?;
            let flag = pick_mut(rng, mount.flags.iter_mut())?;
            *flag = flag.replace("target=/", "target=/mnt");
            Some(Open)
        },
    },
    Mutation {
        name: "command",
        apply: |case, rng| {
            let runs = instructions(case).filter(|it| it.name == "RUN" && it.body.is_none());
            let command =
                &mut pick_mut(rng, runs.filter(|it| !it.words[0].starts_with('[')))?.words[0];
            *command += " && echo more > /out/more";
            Some(Open)
        },
    },
    Mutation {
        name: "command that does the same",
        apply: |case, rng| {
            let runs = instructions(case).filter(|it| it.name == "RUN" && it.body.is_none());
            let command =
                &mut pick_mut(rng, runs.filter(|it| !it.words[0].starts_with('[')))?.words[0];
            *command += " && true";
            Some(Open)
        },
    },
    Mutation {
        name: "here-document",
        apply: |case, rng| {
            let body = pick_mut(rng, instructions(case).filter_map(|it| it.body.as_mut()))?;
            *body += "echo and more $B\n";
            Some(Open)
        },
    },
    Mutation {
        name: "value of a setting",
        apply: |case, rng| {
            let names = [
                "ENV",
                "LABEL",
                "WORKDIR",
                "CMD",
                "EXPOSE",
                "VOLUME",
                "USER",
                "ONBUILD",
                "STOPSIGNAL",
            ];
            let word = pick_mut(rng, instructions(case).filter(|it| names.contains(&it.name)))?
                .words
                .last_mut()?;
            *word += "1";
            Some(Open)
        },
    },
    Mutation {
        name: "variable renamed",
        apply: |case, rng| {
            let word =
                &mut pick_mut(rng, instructions(case).filter(|it| it.name == "ENV"))?.words[0];
            *word = format!("X{word}");
            Some(Open)
        },
    },
    Mutation {
        name: "value in quotes",
        apply: |case, rng| {
            let plain = |it: &&mut Instruction| {
                matches!(it.name, "ENV" | "LABEL") && !it.words[0].contains(['"', '\'', ' ', '\\'])
            };
            let word = &mut pick_mut(rng, instructions(case).filter(plain))?.words[0];
            let (name, value) = word.split_once('=')?;
            *word = format!("{name}=\"{value}\"");
            Some(Open)
        },
    },
    Mutation {
        name: "stage that nobody needs",
        apply: |case, rng| {
            let reached = case.recipe.reachable(case.goal());
            let unused: Vec<usize> =
                (0..case.recipe.stages.len()).filter(|i| !reached.contains(i)).collect();
            let index = pick(rng, &unused)?;
            case.recipe.stages[index].body.push(Instruction::new("LABEL", &["unused=1"]));
            text(case)
        },
    },
    Mutation {
        name: "stage added that nobody needs",
        apply: |case, _| {
            case.target = Some(case.goal());
            if !case.recipe.named().contains(&case.goal()) {
                return None;
            }
            let mut stage = case.recipe.stages[0].clone();
            stage.name = Some("Nobody".to_owned());
            stage.body.push(Instruction::new("COPY", &["src", "/unused/"]));
            case.recipe.stages.push(stage);
            if text_of(case).contains("TARGETSTAGE") { Some(Open) } else { text(case) }
        },
    },
    Mutation {
        name: "stage renamed",
        apply: |case, rng| {
            let named = case.recipe.stages.iter_mut().filter_map(|stage| stage.name.as_mut());
            *pick_mut(rng, named)? += "-renamed";
            if text_of(case).contains("TARGETSTAGE") { Some(Open) } else { text(case) }
        },
    },
    Mutation {
        name: "layout and remarks",
        apply: |case, rng| {
            case.style.layout = rng.u64(1..);
            text(case)
        },
    },
    Mutation {
        name: "case of names",
        apply: |case, rng| {
            case.style.case = rng.u64(1..);
            text(case)
        },
    },
    Mutation {
        name: "stages by number",
        apply: |case, _| {
            case.style.numbers = !case.style.numbers;
            text(case)
        },
    },
    Mutation {
        name: "Dockerfile elsewhere",
        apply: |case, _| {
            case.inside = !case.inside;
            Some(if case.reads_broadly() { Open } else { Nothing })
        },
    },
    // How it all lies on the disk.
    Mutation { name: "touched", apply: |case, _| checkout(case, Checkout::Touched, Nothing) },
    Mutation {
        name: "made in another order",
        apply: |case, _| checkout(case, Checkout::Reversed, Nothing),
    },
    Mutation { name: "another owner", apply: |case, _| checkout(case, Checkout::Owned, Nothing) },
    Mutation { name: "through tar", apply: |case, _| checkout(case, Checkout::Tar, Nothing) },
    Mutation {
        name: "through git",
        apply: |case, _| {
            // Git keeps neither empty directories nor set-user-id bits.
            let full = |directory: &String| {
                let below = format!("{directory}/");
                case.tree
                    .paths(|node| *node != Node::Directory)
                    .iter()
                    .any(|path| path.starts_with(&below))
            };
            let kept = case.tree.directories().iter().all(full);
            checkout(case, Checkout::Git, if kept { Nothing } else { Open })
        },
    },
    Mutation {
        name: "umask 002",
        apply: |case, _| checkout(case, Checkout::GroupWritable, NothingServed),
    },
    Mutation { name: "built again", apply: |_, _| Some(Nothing) },
];

fn pick<T: Clone>(rng: &mut Rng, of: &[T]) -> Option<T> {
    (!of.is_empty()).then(|| of[rng.usize(..of.len())].clone())
}

/// One of these paths: most of the time one that the Dockerfile seems to read.
fn path(case: &Case, rng: &mut Rng, of: Vec<String>) -> Option<String> {
    let reached = case.recipe.reachable(case.goal());
    let read = reached.into_iter().flat_map(|index| &case.recipe.stages[index].body);
    let read: Vec<&str> = read.flat_map(Instruction::sources).collect();
    let is_read = |path: &&String| {
        read.iter().any(|source| {
            let plain = source.trim_start_matches(['.', '/']);
            let plain = plain.split(['*', '?', '[']).next().unwrap_or_default();
            path.starts_with(plain.trim_end_matches('/'))
        })
    };
    let seen: Vec<String> = of.iter().filter(is_read).cloned().collect();
    let blind = seen.is_empty() || rng.u8(..5) == 0;
    pick(rng, if blind { &of } else { &seen })
}

fn pick_mut<'a, T>(rng: &mut Rng, of: impl Iterator<Item = &'a mut T>) -> Option<&'a mut T> {
    let mut all: Vec<&mut T> = of.collect();
    (!all.is_empty()).then(|| all.swap_remove(rng.usize(..all.len())))
}

fn file(case: &mut Case, rng: &mut Rng, change: fn(&mut Vec<u8>, &mut Rng)) -> Option<Sight> {
    let path = path(case, rng, case.tree.files())?;
    let Node::File { content, .. } = case.tree.get_mut(&path)? else { return None };
    change(content, rng);
    Some(Open)
}

fn exchange(case: &mut Case, rng: &mut Rng) -> Option<Sight> {
    let (one, two) = (path(case, rng, case.tree.files())?, path(case, rng, case.tree.files())?);
    let (first, second) = (case.tree.get(&one)?.clone(), case.tree.get(&two)?.clone());
    case.tree.insert(one, second);
    case.tree.insert(two, first);
    Some(Open)
}

fn shift(case: &mut Case, rng: &mut Rng) -> Option<Sight> {
    let files = case.tree.files();
    let at = rng.usize(..files.len().checked_sub(1)?.max(1));
    let Node::File { content, .. } = case.tree.get_mut(&files[at])? else { return None };
    let byte = content.pop()?;
    let Node::File { content, .. } = case.tree.get_mut(files.get(at + 1)?)? else { return None };
    content.insert(0, byte);
    Some(Open)
}

fn rename(case: &mut Case, rng: &mut Rng, to: fn(&str) -> String) -> Option<Sight> {
    let path = path(case, rng, case.tree.files())?;
    case.tree.rename(&path, &to(&path));
    Some(Open)
}

fn mode(case: &mut Case, rng: &mut Rng, bits: u32) -> Option<Sight> {
    let path = path(case, rng, case.tree.files())?;
    let Node::File { mode, .. } = case.tree.get_mut(&path)? else { return None };
    *mode ^= bits;
    Some(Open)
}

fn instructions(case: &mut Case) -> impl Iterator<Item = &mut Instruction> {
    case.recipe.globals.iter_mut().chain(case.recipe.stages.iter_mut().flat_map(|s| &mut s.body))
}

fn stage<'a>(
    case: &'a mut Case,
    rng: &mut Rng,
    index: Option<usize>,
) -> Option<&'a mut Vec<Instruction>> {
    let index = index.unwrap_or_else(|| rng.usize(..case.recipe.stages.len()));
    case.recipe.stages.get_mut(index).map(|stage| &mut stage.body).filter(|body| !body.is_empty())
}

fn flag(
    case: &mut Case,
    rng: &mut Rng,
    instruction: &str,
    flag: &str,
    values: &[&str],
) -> Option<Sight> {
    let found = pick_mut(rng, instructions(case).filter(|it| it.name == instruction))?;
    found.flags.retain(|it| !it.starts_with(flag));
    found.flags.push(format!("{flag}{}", pick(rng, values)?));
    Some(Open)
}

fn text_of(case: &Case) -> String {
    case.recipe.text(case.style, "")
}

/// A change of the Dockerfile's text and not of its meaning: seen only where the text is copied.
fn text(case: &Case) -> Option<Sight> {
    Some(if case.inside && case.reads_broadly() { Open } else { Nothing })
}

fn checkout(case: &mut Case, checkout: Checkout, sight: Sight) -> Option<Sight> {
    case.checkout = checkout;
    Some(sight)
}
