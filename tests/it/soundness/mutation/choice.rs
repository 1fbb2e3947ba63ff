//! Choosing what to change.

use fastrand::Rng;

use crate::soundness::{case::Case, recipe::Instruction};

/// Any of these.
pub(super) fn pick<T: Clone>(rng: &mut Rng, of: &[T]) -> Option<T> {
    (!of.is_empty()).then(|| of[rng.usize(..of.len())].clone())
}

/// One of these paths: most of the time one that the Dockerfile seems to read.
pub(super) fn path(case: &Case, rng: &mut Rng, of: Vec<String>) -> Option<String> {
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

/// Any of these, to be changed.
pub(super) fn pick_mut<'a, T>(
    rng: &mut Rng,
    of: impl Iterator<Item = &'a mut T>,
) -> Option<&'a mut T> {
    let mut all: Vec<&mut T> = of.collect();
    (!all.is_empty()).then(|| all.swap_remove(rng.usize(..all.len())))
}

/// Every instruction of the Dockerfile.
pub(super) fn instructions(case: &mut Case) -> impl Iterator<Item = &mut Instruction> {
    case.recipe.globals.iter_mut().chain(case.recipe.stages.iter_mut().flat_map(|s| &mut s.body))
}

/// The instructions of any stage.
pub(super) fn stage<'a>(case: &'a mut Case, rng: &mut Rng) -> Option<&'a mut Vec<Instruction>> {
    let index = rng.usize(..case.recipe.stages.len());
    case.recipe.stages.get_mut(index).map(|stage| &mut stage.body).filter(|body| !body.is_empty())
}
