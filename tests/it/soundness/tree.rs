//! Directory trees in memory, and the ways in which one comes to lie on a disk.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt, fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, chown, symlink},
    },
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use fastrand::Rng;

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File { content: Vec<u8>, mode: u32 },
    Directory,
    Link(String),
}

impl Node {
    pub(super) fn file(content: impl Into<Vec<u8>>) -> Self {
        Self::File { content: content.into(), mode: 0o644 }
    }
}

/// Everything below a directory, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tree(BTreeMap<String, Node>);

/// How a tree came to lie where it lies. None of it may matter to an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Checkout {
    #[default]
    Plain,
    /// With other modification times.
    Touched,
    /// Files and directories made in the opposite order.
    Reversed,
    /// With files of another user.
    Owned,
    /// Packed with tar and unpacked.
    Tar,
    /// Committed to git and cloned.
    Git,
    /// Checked out with the umask 002.
    GroupWritable,
    /// With one file for all that are equal, under several names.
    Linked,
    /// Beside a file whose name is not UTF-8, in a directory that no Dockerfile names.
    Strange,
}

impl Tree {
    pub(super) fn get(&self, path: &str) -> Option<&Node> {
        self.0.get(path)
    }

    pub(super) fn get_mut(&mut self, path: &str) -> Option<&mut Node> {
        self.0.get_mut(path)
    }

    /// Puts something at a path, with the directories above it. Nothing happens where one of those
    /// is no directory.
    pub(super) fn insert(&mut self, path: impl Into<String>, node: Node) {
        let path = path.into();
        let above: Vec<&str> = path.match_indices('/').map(|(at, _)| &path[..at]).collect();
        if above.iter().any(|above| self.0.get(*above).is_some_and(|it| *it != Node::Directory)) {
            return;
        }
        for above in above {
            self.0.entry(above.to_owned()).or_insert(Node::Directory);
        }
        self.0.insert(path, node);
    }

    /// Takes a path out, with all that is below it.
    pub(super) fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.0.retain(|other, _| other != path && !other.starts_with(&below));
    }

    /// Moves a path, with all that is below it.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        let below = format!("{from}/");
        let moved: Vec<(String, Node)> = self
            .0
            .iter()
            .filter(|(path, _)| *path == from || path.starts_with(&below))
            .map(|(path, node)| (format!("{to}{}", &path[from.len()..]), node.clone()))
            .collect();
        self.remove(from);
        for (path, node) in moved {
            self.insert(path, node);
        }
    }

    /// Paths of the entries that are wanted.
    pub(super) fn paths(&self, wanted: impl Fn(&Node) -> bool) -> Vec<String> {
        self.0.iter().filter(|(_, node)| wanted(node)).map(|(path, _)| path.clone()).collect()
    }

    pub(super) fn files(&self) -> Vec<String> {
        self.paths(|node| matches!(node, Node::File { .. }))
    }

    pub(super) fn directories(&self) -> Vec<String> {
        self.paths(|node| *node == Node::Directory)
    }

    pub(super) fn links(&self) -> Vec<String> {
        self.paths(|node| matches!(node, Node::Link(_)))
    }

    /// Lays the tree into an empty directory.
    pub(super) fn write(&self, root: &Path, checkout: Checkout) {
        match checkout {
            Checkout::Tar | Checkout::Git => {
                let first = tempfile::tempdir().unwrap();
                self.lay(first.path(), false);
                let script = if checkout == Checkout::Tar {
                    "tar -C \"$1\" -c . | tar -C \"$2\" -x --no-same-owner"
                } else {
                    "cd \"$1\" && git init -q && git add -Af && git -c user.name=x -c user.email=x@y.z \
                     commit -qm. --allow-empty && git clone -q \"$1\" \"$2\" && rm -rf \"$2/.git\""
                };
                let status = Command::new("sh")
                    .args(["-ec", script, "sh"])
                    .args([first.path(), root])
                    .env("GIT_CONFIG_GLOBAL", "/dev/null")
                    .stderr(Stdio::null())
                    .status()
                    .unwrap();
                assert!(status.success(), "{script}: {status}");
            }
            _ => self.lay(root, checkout == Checkout::Reversed),
        }
        if checkout == Checkout::Strange {
            let name = OsStr::from_bytes(b"not \xff UTF-8");
            fs::create_dir_all(root.join("aside")).unwrap();
            fs::write(root.join("aside").join(name), "strange").unwrap();
        }
        let mut first = BTreeMap::new();
        for (path, node) in &self.0 {
            let path = root.join(path);
            match (checkout, node) {
                (Checkout::Linked, Node::File { content, mode }) => {
                    let twin = first.entry((content, mode)).or_insert_with(|| path.clone());
                    if *twin != path {
                        fs::remove_file(&path).unwrap();
                        fs::hard_link(twin, path).unwrap();
                    }
                }
                (Checkout::Touched, Node::File { .. }) => {
                    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
                    fs::File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
                }
                (Checkout::Owned, Node::File { mode, .. }) => {
                    chown(&path, Some(1234), Some(4321)).unwrap();
                    // Giving a file away takes its set-user-id bit.
                    fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
                }
                (Checkout::GroupWritable, Node::File { mode, .. }) => {
                    fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o020)).unwrap();
                }
                (Checkout::GroupWritable, Node::Directory) => {
                    fs::set_permissions(path, fs::Permissions::from_mode(0o775)).unwrap();
                }
                _ => {}
            }
        }
    }

    fn lay(&self, root: &Path, reversed: bool) {
        let mut entries: Vec<_> = self.0.iter().collect();
        if reversed {
            entries.reverse();
        }
        for (path, node) in entries {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match node {
                Node::Directory => fs::create_dir_all(path).unwrap(),
                Node::Link(target) => symlink(target, path).unwrap(),
                Node::File { content, mode } => {
                    fs::write(&path, content).unwrap();
                    fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
                }
            }
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, node) in &self.0 {
            match node {
                Node::Directory => writeln!(f, "  {path}/")?,
                Node::Link(target) => writeln!(f, "  {path} -> {target}")?,
                Node::File { content, mode } => {
                    let shown = &content[..content.len().min(60)];
                    writeln!(f, "  {path} {mode:o} \"{}\"", shown.escape_ascii())?;
                }
            }
        }
        Ok(())
    }
}

/// A tar archive of a few files, for `ADD` to unpack.
pub(super) fn archive(rng: &mut Rng) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for name in ["in/one", "in/two", "three"].iter().take(rng.usize(1..=3)) {
        let content = format!("{name} {}\n", rng.u8(..));
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

const TOP: [&str; 5] = ["src", "lib", "data", "docs", "Odd Dir"];
const NAMES: [&str; 20] = [
    "a.txt",
    "b.txt",
    "c.md",
    "run.sh",
    "main.c",
    "A.TXT",
    ".hidden",
    "x y.txt",
    "odd[1].txt",
    "-dash",
    "#hash",
    "!bang",
    "q?.txt",
    "star*.txt",
    "ünï.txt",
    "back\\slash",
    "d",
    "sub/e.txt",
    "sub/f.md",
    "sub/deep/g.txt",
];

/// A small tree. `keep.txt` and `src/` with a file are always there.
pub(super) fn tree(rng: &mut Rng) -> Tree {
    let mut tree = Tree::default();
    let file = |rng: &mut Rng, name: &str| Node::File {
        content: match rng.u8(..8) {
            0 => Vec::new(),
            1 => b"same\n".to_vec(),
            _ => format!("{name} {}\n", rng.u16(..)).into_bytes(),
        },
        mode: if name.ends_with(".sh") || rng.u8(..8) == 0 { 0o755 } else { 0o644 },
    };
    tree.insert("keep.txt", Node::file("keep\n"));
    tree.insert("src/main.c", Node::file("int main;\n"));
    for _ in 0..rng.usize(1..5) {
        let name = NAMES[rng.usize(..NAMES.len())];
        let node = file(rng, name);
        tree.insert(name, node);
    }
    for directory in &TOP[..rng.usize(1..=TOP.len())] {
        for _ in 0..rng.usize(1..4) {
            let name = NAMES[rng.usize(..NAMES.len())];
            let node = file(rng, name);
            tree.insert(format!("{directory}/{name}"), node);
        }
    }
    if rng.bool() {
        let parent = TOP[rng.usize(..2)];
        tree.insert(format!("{parent}/empty"), Node::Directory);
    }
    if rng.u8(..3) == 0 {
        tree.insert("bundle.tar", Node::file(archive(rng)));
    }
    for _ in 0..rng.usize(..3) {
        let (path, target) = link(rng, &tree);
        if tree.get(&path).is_none() {
            tree.insert(path, Node::Link(target));
        }
    }
    tree
}

/// A place for a link, and where it leads: mostly to something that is there.
pub(super) fn link(rng: &mut Rng, tree: &Tree) -> (String, String) {
    let at_root = rng.bool();
    let path = if at_root { "link" } else { "src/link" };
    let to = tree.paths(|_| true);
    let to = &to[rng.usize(..to.len())];
    let target = match rng.u8(..10) {
        0 => "nowhere".to_owned(),
        1 => format!("/{to}"),
        2 => format!("../../../{to}"),
        3 => "..".to_owned(),
        4 => "link".to_owned(),
        _ if at_root => to.clone(),
        _ => format!("../{to}"),
    };
    (path.to_owned(), target)
}
