//! The walk: one pass over exactly the directories that something is taken from, with the files
//! hashed on the way.
//!
//! A directory is one task. A small context is done by the calling thread alone; once a scan has
//! cost a millisecond or two, threads are started and share what is left, be it directories or the
//! files of one large directory. A directory is opened by its path, so that no more than two
//! descriptors are open for each thread, however deep the tree.

use std::{
    io,
    num::NonZero,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use rayon::{ThreadPool, ThreadPoolBuilder, iter::ParallelIterator, slice::ParallelSliceMut};

use super::{
    Error,
    cache::Cache,
    cache_block::{Fresh, Page},
    directory::{Directory, FileKind, Names, Root, Unsorted},
    filter::Active,
    ignore::Ignore,
    listing::{Item, ItemKind, Listing, Listings},
    patterns::Matched,
    read::{Reader, Work},
    select::{Node, is_gone, unreadable},
    tree::{Mode, Tree, Warning},
};

/// How many files of a large directory a thread takes at once.
const FILES_AT_ONCE: usize = 32;

/// What a walk needs to know.
pub(super) struct Walk<'a> {
    pub(super) root: &'a Root,
    pub(super) ignore: &'a Ignore,
    pub(super) strict_modes: bool,
    pub(super) cache: Option<&'a Cache>,
    pub(super) threads: NonZero<usize>,
}

/// What a walk found.
pub(super) struct Found {
    pub(super) tree: Tree,
    /// What may be put into the stat cache.
    pub(super) fresh: Vec<Fresh>,
}

/// A directory to visit.
struct Task<'a> {
    id: u32,
    path: Vec<u8>,
    /// What the ignore file says of it. `None` for the root.
    matched: Option<Matched>,
    /// The directory is ignored, and visited for exceptions.
    ignored: bool,
    /// Everything in it is taken.
    everything: bool,
    /// What is taken of it otherwise.
    filters: Vec<Active<'a>>,
    /// Names in it that something is taken from.
    node: Option<&'a Node>,
}

/// What the threads of a walk share.
struct Shared<'a> {
    walk: &'a Walk<'a>,
    listings: Mutex<Listings>,
    next_id: AtomicUsize,
    fresh: Mutex<Vec<Fresh>>,
    warnings: Mutex<Vec<Warning>>,
    error: Mutex<Option<Error>>,
    failed: AtomicBool,
    work: Work,
    pool: OnceLock<Option<ThreadPool>>,
}

/// Takes what `selection` says.
pub(super) fn walk(walk: &Walk<'_>, selection: &Node) -> Result<Found, Error> {
    let shared = Shared {
        walk,
        listings: Mutex::default(),
        next_id: AtomicUsize::new(1),
        fresh: Mutex::default(),
        warnings: Mutex::default(),
        error: Mutex::default(),
        failed: AtomicBool::new(false),
        work: Work::default(),
        pool: OnceLock::new(),
    };
    shared.run(Task {
        id: 0,
        path: Vec::new(),
        matched: None,
        ignored: false,
        everything: selection.everything,
        filters: selection.filters.iter().map(|filter| Active::new(filter, 0)).collect(),
        node: Some(selection),
    });
    if let Some(error) = into_inner(shared.error) {
        return Err(error);
    }
    let directories = shared.next_id.into_inner();
    let (mut tree, files) = into_inner(shared.listings).assemble(directories);
    tree.warnings = into_inner(shared.warnings);
    tree.warnings.sort_unstable();
    tree.statistics = shared.work.statistics(files);
    Ok(Found { tree, fresh: into_inner(shared.fresh) })
}

impl<'a> Shared<'a> {
    /// Does a task and all that follow from it.
    fn run(&self, task: Task<'a>) {
        let mut tasks = vec![task];
        while let Some(task) = tasks.pop() {
            if self.work.is_worth_threads()
                && let Some(pool) = self.pool()
            {
                tasks.push(task);
                pool.scope(|scope| {
                    for task in tasks {
                        scope.spawn(|scope| self.run_in(scope, task));
                    }
                });
                return;
            }
            match self.visit(task) {
                Ok(more) => tasks.extend(more),
                Err(error) => return self.fail(error),
            }
        }
    }

    fn run_in<'s>(&'s self, scope: &rayon::Scope<'s>, task: Task<'a>)
    where
        'a: 's,
    {
        if self.failed.load(Ordering::Relaxed) {
            return;
        }
        match self.visit(task) {
            Ok(more) => {
                for task in more {
                    scope.spawn(|scope| self.run_in(scope, task));
                }
            }
            Err(error) => self.fail(error),
        }
    }

    fn fail(&self, error: Error) {
        self.failed.store(true, Ordering::Relaxed);
        lock(&self.error).get_or_insert(error);
    }

    /// The threads, started when first asked for; `None` if there is to be only one, or there can be
    /// no more.
    fn pool(&self) -> Option<&ThreadPool> {
        let threads = self.walk.threads.get();
        let start = || ThreadPoolBuilder::new().num_threads(threads).build().ok();
        self.pool.get_or_init(|| if threads > 1 { start() } else { None }).as_ref()
    }

    /// Reads a directory and the files in it; the directories in it are tasks of their own.
    fn visit(&self, task: Task<'a>) -> Result<Vec<Task<'a>>, Error> {
        let mut listing = Listing::default();
        let mut tasks = Vec::new();
        match self.walk.root.directory(&task.path) {
            Ok(directory) => self.list(&task, &directory, &mut listing, &mut tasks)?,
            Err(error) if is_gone(&error) => {}
            Err(error) if may_be_skipped(&task, &error) => {}
            Err(error) => return Err(unreadable(&task.path, error)),
        }
        lock(&self.listings).push(task.id, listing);
        Ok(tasks)
    }

    fn list(
        &self,
        task: &Task<'a>,
        directory: &Directory,
        listing: &mut Listing,
        tasks: &mut Vec<Task<'a>>,
    ) -> Result<(), Error> {
        let identity = || directory.own_metadata().ok()?.identity;
        let page = self.walk.cache.and_then(|cache| cache.page(identity()?));
        let names = self.names(task, directory, page.as_ref())?;
        self.work.add_names(names.len());
        let mut path = task.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        let above = path.len();
        if task.everything {
            listing.items.reserve_exact(names.len());
            listing.bytes.reserve_exact(names.total_length() + names.len() * above);
        }
        for (name, kind) in names.iter() {
            path.truncate(above);
            path.extend_from_slice(name);
            self.consider(task, directory, &path, kind, listing, tasks)?;
        }
        self.read_files(directory, page.as_ref(), listing)?;
        if let Some(fresh) = page.and_then(|page| page.into_fresh(listing.items.len())) {
            lock(&self.fresh).push(fresh);
        }
        Ok(())
    }

    /// The names that may matter.
    fn names<'p>(
        &self,
        task: &Task<'a>,
        directory: &Directory,
        page: Option<&'p Page>,
    ) -> Result<Names<'p>, Error> {
        if !task.everything && task.filters.is_empty() {
            let mut names = Unsorted::default();
            for name in task.node.into_iter().flat_map(|node| node.children.keys()) {
                names.push(name, None);
            }
            return Ok(names.sorted());
        }
        if let Some(names) = page.and_then(Page::names) {
            return Ok(names);
        }
        match directory.names() {
            Ok(names) => {
                if let Some(page) = page {
                    page.learn_names(&names);
                }
                Ok(names)
            }
            Err(error) if may_be_skipped(task, &error) => Ok(Names::default()),
            Err(error) => Err(unreadable(&task.path, error)),
        }
    }

    /// Decides on a path, and puts it down if it is taken.
    fn consider(
        &self,
        task: &Task<'a>,
        directory: &Directory,
        path: &[u8],
        kind: Option<FileKind>,
        listing: &mut Listing,
        tasks: &mut Vec<Task<'a>>,
    ) -> Result<(), Error> {
        let name = file_name(path);
        let failed = |error| unreadable(path, error);
        let kind = match kind {
            Some(kind) => kind,
            None => match directory.metadata(name) {
                Ok(metadata) => metadata.kind,
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) => return Err(failed(error)),
            },
        };
        let node = task.node.and_then(|node| node.children.get(name));
        if kind == FileKind::Directory {
            return self.consider_directory(task, directory, path, node, listing, tasks);
        }
        let ends_here =
            node.is_some_and(|node| node.everything || node.link || !node.filters.is_empty());
        let taken =
            task.everything || ends_here || task.filters.iter().any(|active| active.takes(path));
        if !taken || self.walk.ignore.excludes_in(path, task.matched.as_ref()) {
            return Ok(());
        }
        match kind {
            FileKind::File => listing.push(path, Mode::PLAIN, ItemKind::Unread),
            FileKind::Symlink => match directory.read_link(name) {
                Ok(target) => listing.push_symlink(path, &target),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(failed(error)),
            },
            _ => lock(&self.warnings).push(Warning::Special { path: path.to_vec() }),
        }
        Ok(())
    }

    fn consider_directory(
        &self,
        task: &Task<'a>,
        directory: &Directory,
        path: &[u8],
        node: Option<&'a Node>,
        listing: &mut Listing,
        tasks: &mut Vec<Task<'a>>,
    ) -> Result<(), Error> {
        let name = file_name(path);
        let ignore = self.walk.ignore;
        let (ignored, matched) = ignore.enter(path, task.matched.as_ref());
        if ignored && !ignore.may_include_below(path) {
            return Ok(());
        }
        let everything = task.everything || node.is_some_and(|node| node.everything);
        let mut taken = everything;
        let mut filters = Vec::new();
        if !everything {
            for active in &task.filters {
                let (takes, below) = active.enter(path);
                taken |= takes;
                filters.extend(below);
            }
            for filter in node.into_iter().flat_map(|node| &node.filters) {
                taken = true;
                filters.push(Active::new(filter, path.len() + 1));
            }
        }
        let visible = taken || !filters.is_empty();
        let visited =
            everything || !filters.is_empty() || node.is_some_and(|node| !node.children.is_empty());
        taken &= !ignored;
        // Even an ignored one, if it may hold exceptions: the engine fails without it, and its own
        // client sends it (tonistiigi/fsutil: `walker.go`, as of Docker 20.10).
        taken |= node.is_some_and(|node| node.searched);
        if !taken && !visited {
            return Ok(());
        }
        // What lies above everything that is taken has to be there, and shows nothing but that.
        let mode = if visible {
            match directory.metadata(name) {
                Ok(found) if self.walk.strict_modes => Mode::exact(found.permissions),
                Ok(found) => Mode::of_directory(found.permissions),
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) => return Err(unreadable(path, error)),
            }
        } else {
            Mode::EXECUTABLE
        };
        let id = visited.then(|| self.next_id.fetch_add(1, Ordering::Relaxed) as u32);
        listing.push(path, mode, ItemKind::Directory { listing: id, taken });
        if let Some(id) = id {
            let (path, matched) = (path.to_vec(), Some(matched));
            tasks.push(Task { id, path, matched, ignored, everything, filters, node });
        }
        Ok(())
    }

    /// Reads the files of a directory, alone or with all threads.
    fn read_files(
        &self,
        directory: &Directory,
        page: Option<&Page>,
        listing: &mut Listing,
    ) -> Result<(), Error> {
        let Listing { bytes, items } = listing;
        let strict_modes = self.walk.strict_modes;
        let reader = Reader { directory, page, bytes, strict_modes, work: &self.work };
        let in_pool = rayon::current_thread_index().is_some();
        let mut rest = &mut items[..];
        while !rest.is_empty() {
            if rest.len() > FILES_AT_ONCE && self.work.is_worth_threads() {
                let share = |rest: &mut [Item]| {
                    rest.par_chunks_mut(FILES_AT_ONCE).try_for_each(|chunk| reader.read(chunk))
                };
                if in_pool {
                    return share(rest);
                } else if let Some(pool) = self.pool() {
                    return pool.install(|| share(rest));
                }
            }
            let (chunk, others) = rest.split_at_mut(rest.len().min(FILES_AT_ONCE));
            reader.read(chunk)?;
            rest = others;
        }
        Ok(())
    }
}

/// The last name of a path.
pub(super) fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// An ignored directory need not be readable.
fn may_be_skipped(task: &Task<'_>, error: &io::Error) -> bool {
    task.ignored && error.kind() == io::ErrorKind::PermissionDenied
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}
