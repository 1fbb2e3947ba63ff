//! Changes of the files of the context, and of what is ignored.

use fastrand::Rng;

use super::{
    Mutation,
    Sight::{self, Nothing, Open},
    choice::{path, pick},
};
use crate::soundness::{
    case::Case,
    maker,
    tree::{self, Node},
};

pub(super) const MUTATIONS: &[Mutation] = &[
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
            let line = maker::ignore_line(rng, &case.tree, case.features);
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
            case.own_ignore = Some(maker::ignore(rng, &case.tree, case.features));
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
];

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
