//! What a walk found, directory by directory, and how that becomes a tree.
//!
//! The threads of a walk finish directories in any order; here they are put into the one order that
//! depends on nothing but the names.

use super::tree::{Kind, Mode, Tree};

/// What was found in a directory.
pub(super) struct Listing {
    pub(super) path: Vec<u8>,
    pub(super) names: Vec<u8>,
    pub(super) items: Vec<Item>,
}

pub(super) struct Item {
    pub(super) start: u32,
    pub(super) length: u32,
    pub(super) mode: Mode,
    pub(super) kind: ItemKind,
}

pub(super) enum ItemKind {
    /// A file that is still to be read.
    Unread,
    File {
        size: u64,
        digest: [u8; 32],
    },
    Symlink {
        target: Box<[u8]>,
    },
    Directory {
        /// Its own listing, if it is visited.
        listing: Option<u32>,
        /// Whether it is there even if nothing in it is.
        taken: bool,
    },
    /// It vanished.
    Gone,
}

impl Listing {
    pub(super) fn name(&self, item: &Item) -> &[u8] {
        let start = item.start as usize;
        self.names.get(start..start + item.length as usize).unwrap_or_default()
    }

    pub(super) fn push(&mut self, name: &[u8], mode: Mode, kind: ItemKind) {
        let (start, length) = (self.names.len() as u32, name.len() as u32);
        self.names.extend_from_slice(name);
        self.items.push(Item { start, length, mode, kind });
    }
}

/// Puts the listings together in walk order, and counts the files. A directory that is only there
/// for what is in it stays only if something is.
pub(super) fn assemble(listings: Vec<(u32, Listing)>, count: usize) -> (Tree, u64) {
    let mut by_id: Vec<Option<Listing>> = std::iter::repeat_with(|| None).take(count).collect();
    for (id, listing) in listings {
        if let Some(slot) = by_id.get_mut(id as usize) {
            *slot = Some(listing);
        }
    }
    // A directory has a higher number than the one it is in.
    let mut alive = vec![false; count];
    let (mut entries, mut bytes) = (0, 0);
    for id in (0..count).rev() {
        let Some(listing) = &by_id[id] else { continue };
        for item in listing.items.iter().filter(|item| item.is_alive(&alive)) {
            entries += 1;
            bytes += listing.path.len() + 1 + item.length as usize;
            if let ItemKind::Symlink { target } = &item.kind {
                bytes += target.len();
            }
        }
        alive[id] = listing.items.iter().any(|item| item.is_alive(&alive));
    }

    let mut files = 0;
    let mut tree = Tree::with_capacity(entries, bytes);
    let mut open: Vec<(Listing, usize)> =
        by_id[0].take().map(|root| (root, 0)).into_iter().collect();
    while let Some((listing, next)) = open.last_mut() {
        let Some(item) = listing.items.get(*next) else {
            open.pop();
            continue;
        };
        *next += 1;
        if !item.is_alive(&alive) {
            continue;
        }
        let (kind, inner) = match &item.kind {
            ItemKind::File { size, digest } => {
                files += 1;
                (Kind::File { size: *size, digest: *digest }, None)
            }
            ItemKind::Symlink { target } => (Kind::Symlink { target }, None),
            ItemKind::Directory { listing, .. } => (Kind::Directory, *listing),
            ItemKind::Unread | ItemKind::Gone => continue,
        };
        tree.push(&listing.path, listing.name(item), item.mode, kind);
        if let Some(inner) = inner.and_then(|id| by_id.get_mut(id as usize)?.take()) {
            open.push((inner, 0));
        }
    }
    (tree, files)
}

impl Item {
    pub(super) fn is_alive(&self, alive: &[bool]) -> bool {
        match &self.kind {
            ItemKind::File { .. } | ItemKind::Symlink { .. } => true,
            ItemKind::Directory { listing, taken } => {
                *taken || listing.is_some_and(|id| alive.get(id as usize) == Some(&true))
            }
            ItemKind::Unread | ItemKind::Gone => false,
        }
    }
}
