//! Changes of the Dockerfile.

use fastrand::Rng;

use super::{
    Mutation,
    Sight::{self, Nothing, Open},
    choice::{instructions, pick, pick_mut, stage},
};
use crate::soundness::{case::Case, recipe::Instruction};

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "instruction removed",
        apply: |case, rng| {
            let stage = stage(case, rng)?;
            stage.remove(rng.usize(..stage.len()));
            Some(Open)
        },
    },
    Mutation {
        name: "instruction doubled",
        apply: |case, rng| {
            let stage = stage(case, rng)?;
            let at = rng.usize(..stage.len());
            stage.insert(at, stage[at].clone());
            Some(Open)
        },
    },
    Mutation {
        name: "instructions in another order",
        apply: |case, rng| {
            let stage = stage(case, rng)?;
            let at = rng.usize(1..stage.len().max(2));
            (at < stage.len()).then(|| stage.swap(at - 1, at))?;
            Some(Open)
        },
    },
    Mutation {
        name: "instruction moved to another stage",
        apply: |case, rng| {
            let moved = {
                let stage = stage(case, rng)?;
                stage.pop()?
            };
            if moved.texts().any(|text| text.contains("@stage")) {
                return None;
            }
            stage(case, rng)?.push(moved);
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
            if case.plain_text().contains("TARGETSTAGE") { Some(Open) } else { text(case) }
        },
    },
    Mutation {
        name: "stage renamed",
        apply: |case, rng| {
            // A context takes the place of the stage of its name, and of no other.
            let Case { recipe, contexts, .. } = &mut *case;
            let named = recipe.stages.iter_mut().filter_map(|stage| stage.name.as_mut());
            let named = named.filter(|name| !contexts.contains_key(&name.to_lowercase()));
            *pick_mut(rng, named)? += "-renamed";
            if case.plain_text().contains("TARGETSTAGE") { Some(Open) } else { text(case) }
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
];

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

/// A change of the Dockerfile's text and not of its meaning: seen only where the text is copied.
fn text(case: &Case) -> Option<Sight> {
    Some(if case.inside && case.reads_broadly() { Open } else { Nothing })
}
