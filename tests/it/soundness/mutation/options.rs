//! Changes of what is given beside the context and the Dockerfile: arguments, options, images,
//! other contexts, remote files, secrets.

use super::{
    Mutation,
    Sight::{Nothing, Open},
    choice::{instructions, pick, pick_mut},
};
use crate::soundness::{
    case::{Case, Validator},
    maker,
    recipe::Instruction,
    tree::Node,
};

pub(super) const MUTATIONS: &[Mutation] = &[
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
        name: "proxy of Docker's configuration",
        apply: |case, rng| {
            case.proxy = Some(format!("http://127.0.0.1:{}", rng.u8(1..)));
            let declared = case.recipe.instructions().any(|it| {
                it.name == "ARG" && it.words.iter().any(|word| word.starts_with("HTTP_PROXY"))
            });
            Some(if declared { Open } else { Nothing })
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
            let known = case.plain_text().contains("TARGETSTAGE");
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
            let trigger = maker::trigger(rng);
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
            let seen = case.plain_text().contains("/tools:1");
            let mut tools = case.images.iter_mut().filter(|(name, _)| name.ends_with("tools"));
            tools.next().filter(|_| !seen)?.1.content += "moved\n";
            Some(Nothing)
        },
    },
    // Other contexts.
    Mutation {
        name: "content in a named context",
        apply: |case, rng| {
            let tree = pick_mut(rng, case.contexts.values_mut())?;
            let path = pick(rng, &tree.files())?;
            let Node::File { content, .. } = tree.get_mut(&path)? else { return None };
            content.push(b'x');
            Some(Open)
        },
    },
    Mutation {
        name: "file renamed in a named context",
        apply: |case, rng| {
            let tree = pick_mut(rng, case.contexts.values_mut())?;
            let path = pick(rng, &tree.files())?;
            tree.rename(&path, &format!("{path}.new"));
            Some(Open)
        },
    },
    Mutation {
        name: "executable bit in a named context",
        apply: |case, rng| {
            let tree = pick_mut(rng, case.contexts.values_mut())?;
            let path = pick(rng, &tree.files())?;
            let Node::File { mode, .. } = tree.get_mut(&path)? else { return None };
            *mode ^= 0o111;
            Some(Open)
        },
    },
    Mutation {
        name: "ignore file of a named context",
        apply: |case, rng| {
            let features = case.features;
            let tree = pick_mut(rng, case.contexts.values_mut())?;
            let lines = maker::ignore(rng, tree, features);
            tree.insert(".dockerignore", Node::file(lines.join("\n")));
            Some(Open)
        },
    },
    Mutation {
        name: "named context for an image",
        apply: |case, rng| {
            // Somebody builds upon a directory now, or copies from it.
            let tools = case.images.keys().find(|name| name.ends_with("tools"))?;
            let name = format!("@registry@/{tools}:1");
            let mut tree = case.tree.clone();
            tree.insert("etc/image.txt", Node::file(format!("{}\n", rng.u8(..))));
            case.features.contexts.then(|| case.contexts.insert(name, tree))?;
            Some(Open)
        },
    },
    Mutation {
        name: "named contexts by other forms of their names",
        apply: |case, _| {
            (!case.contexts.is_empty()).then(|| case.long_names = !case.long_names)?;
            Some(Nothing)
        },
    },
    Mutation {
        name: "named context that nobody uses",
        apply: |case, _| {
            let tree = case.tree.clone();
            case.features.contexts.then(|| case.contexts.insert("nobody".to_owned(), tree))?;
            Some(Nothing)
        },
    },
    // Files of a server.
    Mutation {
        name: "remote file",
        apply: |case, rng| {
            let remote = pick_mut(rng, case.remotes.values_mut())?;
            remote.content += "more\n";
            remote.version += 1;
            Some(Open)
        },
    },
    Mutation {
        name: "remote file published again",
        apply: |case, rng| {
            let remote = pick_mut(rng, case.remotes.values_mut())?;
            remote.version += 1;
            // Its tag is made from its content.
            Some(if remote.validator == Validator::Tag { Nothing } else { Open })
        },
    },
    Mutation {
        name: "remote file that nobody fetches",
        apply: |case, _| {
            let text = case.plain_text();
            let idle = |name: &&String| !text.contains(&format!("/{name}"));
            let name = case.remotes.keys().find(idle)?.clone();
            case.remotes.get_mut(&name)?.content += "more\n";
            Some(Nothing)
        },
    },
    Mutation {
        name: "server that says less",
        apply: |case, rng| {
            let remote = pick_mut(rng, case.remotes.values_mut())?;
            remote.validator = pick(rng, &[Validator::Tag, Validator::Date, Validator::None])?;
            Some(Open)
        },
    },
    // Secrets.
    Mutation {
        name: "value of a secret",
        apply: |case, rng| {
            *pick_mut(rng, case.secrets.values_mut())? += "x";
            Some(Nothing)
        },
    },
    Mutation {
        name: "secret given",
        apply: |case, rng| {
            let id = pick(rng, &maker::SECRETS)?;
            case.secrets.insert(id.to_owned(), "new".to_owned()).is_none().then_some(())?;
            (!is_required(case, id)).then_some(Open)
        },
    },
    Mutation {
        name: "secret no longer given",
        apply: |case, rng| {
            let ids: Vec<String> = case.secrets.keys().cloned().collect();
            let id = pick(rng, &ids)?;
            case.secrets.remove(&id);
            (!is_required(case, &id)).then_some(Open)
        },
    },
    Mutation {
        name: "secret that nobody mounts",
        apply: |case, _| {
            case.secrets.insert("nobody".to_owned(), "x".to_owned());
            Some(Nothing)
        },
    },
];

/// Whether a step fails without a secret. Its image is there then without the secret too, once it was
/// built with it.
fn is_required(case: &Case, id: &str) -> bool {
    case.plain_text().contains(&format!("id={id},required"))
}
