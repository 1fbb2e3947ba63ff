//! What a walk found, directory by directory, and how that becomes a tree.
//!
//! The threads of a walk finish directories in any order; here they are put into the one order that
//! depends on nothing but the names.

use std::ops::Range;

use super::tree::{Mode, Record, RecordKind, Tree};

/// What was found in a directory, or in all.
#[derive(Default)]
pub(super) struct Listing {
    /// Paths, each followed by the target if it is that of a link.
    pub(super) bytes: Vec<u8>,
    pub(super) items: Vec<Item>,
}

pub(super) struct Item {
    /// Where the path is.
    pub(super) start: u64,
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
        /// How long the target is.
        length: u32,
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
    pub(super) fn push(&mut self, path: &[u8], mode: Mode, kind: ItemKind) {
        let (start, length) = (self.bytes.len() as u64, path.len() as u32);
        self.bytes.extend_from_slice(path);
        self.items.push(Item { start, length, mode, kind });
    }

    pub(super) fn push_symlink(&mut self, path: &[u8], target: &[u8]) {
        self.push(path, Mode::LINK, ItemKind::Symlink { length: target.len() as u32 });
        self.bytes.extend_from_slice(target);
    }
}

/// The listings of all directories, one after the other: two arenas that grow, instead of two small
/// pieces of memory for each.
#[derive(Default)]
pub(super) struct Listings {
    all: Listing,
    /// Where the items of each directory are, by its number.
    places: Vec<(u32, Range<usize>)>,
}

impl Listings {
    /// Adds the listing of the directory with that number.
    pub(super) fn push(&mut self, id: u32, listing: Listing) {
        let Listing { bytes, items } = &mut self.all;
        let (base, first) = (bytes.len() as u64, items.len());
        bytes.extend_from_slice(&listing.bytes);
        items.extend(
            listing.items.into_iter().map(|item| Item { start: base + item.start, ..item }),
        );
        self.places.push((id, first..items.len()));
    }

    /// Puts the listings of `count` directories together in walk order, and counts the files. A
    /// directory that is only there for what is in it stays only if something is.
    pub(super) fn assemble(self, count: usize) -> (Tree, u64) {
        let Listing { bytes, items } = self.all;
        let mut by_id = vec![0..0; count];
        for (id, place) in self.places {
            if let Some(slot) = by_id.get_mut(id as usize) {
                *slot = place;
            }
        }
        // A directory has a higher number than the one it is in.
        let mut alive = vec![false; count];
        let mut entries = 0;
        for id in (0..count).rev() {
            let here = items[by_id[id].clone()].iter().filter(|item| item.is_alive(&alive)).count();
            alive[id] = here > 0;
            entries += here;
        }

        let mut files = 0;
        let mut records = Vec::with_capacity(entries);
        let mut open: Vec<Range<usize>> = by_id.first().cloned().into_iter().collect();
        while let Some(rest) = open.last_mut() {
            let Some(item) = rest.next().and_then(|at| items.get(at)) else {
                open.pop();
                continue;
            };
            if !item.is_alive(&alive) {
                continue;
            }
            let kind = match item.kind {
                ItemKind::File { size, digest } => {
                    files += 1;
                    RecordKind::File { size, digest }
                }
                ItemKind::Symlink { length } => RecordKind::Symlink { length },
                ItemKind::Directory { listing, .. } => {
                    open.extend(listing.and_then(|id| by_id.get(id as usize).cloned()));
                    RecordKind::Directory
                }
                ItemKind::Unread | ItemKind::Gone => continue,
            };
            let Item { start, length, mode, .. } = *item;
            records.push(Record { start, length, mode, kind });
        }
        (Tree::new(bytes, records), files)
    }
}

impl Item {
    fn is_alive(&self, alive: &[bool]) -> bool {
        match &self.kind {
            ItemKind::File { .. } | ItemKind::Symlink { .. } => true,
            ItemKind::Directory { listing, taken } => {
                *taken || listing.is_some_and(|id| alive.get(id as usize) == Some(&true))
            }
            ItemKind::Unread | ItemKind::Gone => false,
        }
    }
}
