//! Changes of how it all lies on the disk.

use super::{
    Mutation,
    Sight::{self, Nothing, NothingServed, Open},
};
use crate::soundness::{
    case::Case,
    tree::{Checkout, Node, Tree},
};

pub(super) const MUTATIONS: &[Mutation] = &[
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
            let is_kept = |tree: &Tree| {
                let files = tree.paths(|node| *node != Node::Directory);
                tree.directories().iter().all(|directory| {
                    let below = format!("{directory}/");
                    files.iter().any(|path| path.starts_with(&below))
                })
            };
            let kept = [&case.tree].into_iter().chain(case.contexts.values()).all(is_kept);
            checkout(case, Checkout::Git, if kept { Nothing } else { Open })
        },
    },
    Mutation {
        name: "umask 002",
        apply: |case, _| checkout(case, Checkout::GroupWritable, NothingServed),
    },
    Mutation {
        name: "equal files linked",
        apply: |case, _| {
            let files = case.tree.files();
            let is_twin = |path: &String| {
                let node = case.tree.get(path);
                files.iter().any(|other| other != path && case.tree.get(other) == node)
            };
            files.iter().any(is_twin).then(|| checkout(case, Checkout::Linked, Nothing))?
        },
    },
    Mutation {
        name: "name that is not UTF-8",
        apply: |case, _| {
            let sight = if case.reads_broadly() { Open } else { Nothing };
            checkout(case, Checkout::Strange, sight)
        },
    },
    Mutation { name: "built again", apply: |_, _| Some(Nothing) },
];

fn checkout(case: &mut Case, checkout: Checkout, sight: Sight) -> Option<Sight> {
    case.checkout = checkout;
    Some(sight)
}
