//! Who is measured, and how each is run on a tree.

use std::{
    env,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use smartbuild_test_rig::{Image, Registry};
use tempfile::TempDir;

use crate::fixture::git;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    Git,
    Warm,
    Slice,
    Changed,
    Hit,
    Read,
    WalkAndRead,
    Cold,
    BuildKit,
    Classic,
}

impl Contender {
    pub(crate) fn all(engine: bool) -> Vec<Self> {
        use Contender::*;
        let mut all = vec![Git, Warm, Slice, Changed, Hit, Read, WalkAndRead, Cold];
        if engine {
            all.extend([BuildKit, Classic]);
        }
        all
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Git => "git status --short",
            Self::Warm => "smartbuild key",
            Self::Slice => "smartbuild key of one directory of it",
            Self::Changed => "smartbuild key, one file changed",
            Self::Hit => "smartbuild --push, a hit",
            Self::Read => "reading every file of a list once",
            Self::WalkAndRead => "finding every file and reading it once",
            Self::Cold => "smartbuild key without stat cache",
            Self::BuildKit => "docker build (BuildKit), all cached",
            Self::Classic => "docker build (classic), all cached",
        }
    }

    /// What the time is told in parts of.
    pub(crate) fn against(self) -> &'static [Self] {
        match self {
            Self::Warm | Self::Hit | Self::BuildKit | Self::Classic => &[Self::Git],
            Self::Slice | Self::Changed => &[Self::Warm],
            Self::Cold => &[Self::Read, Self::WalkAndRead],
            Self::Git | Self::Read | Self::WalkAndRead => &[],
        }
    }

    pub(crate) fn is_slow(self) -> bool {
        matches!(self, Self::BuildKit | Self::Classic)
    }
}

/// A tree, and all that is needed to build it.
pub(crate) struct Bench {
    root: PathBuf,
    /// Dockerfiles, the stat cache, a home.
    beside: TempDir,
    registry: Registry,
    files: Vec<PathBuf>,
    changing: PathBuf,
    before: Vec<u8>,
}

impl Bench {
    pub(crate) fn new(root: &Path) -> io::Result<Self> {
        let beside = TempDir::new()?;
        for (name, source) in [("all", "."), ("slice", "part-00/module-0000")] {
            let path = beside.path().join(name);
            fs::write(&path, format!("FROM scratch\nCOPY {source} /src\n"))?;
            fs::write(path.with_extension("dockerignore"), ".git\n**/*.pyc\n*.log\n")?;
        }
        let changing = root.join("part-00/module-0000/source-000.rs");
        let before = fs::read(&changing)?;
        let files = find(root)?.into_iter().map(walkdir::DirEntry::into_path).collect();
        let (root, registry) = (root.to_owned(), Registry::open());
        Ok(Self { root, beside, registry, files, changing, before })
    }

    /// What has to be done once.
    pub(crate) fn prepare(&self, contender: Contender) -> io::Result<()> {
        match contender {
            Contender::Hit => {
                let key = output(&mut self.key("all"))?;
                let image = Image::scratch().label("io.smartbuild.key", key.trim());
                self.registry.push("bench", key.trim(), &image);
                self.run(contender)
            }
            Contender::Warm | Contender::Slice | Contender::Git => self.run(contender),
            _ if contender.is_slow() => self.run(contender),
            _ => Ok(()),
        }
    }

    /// What has to be done before each run.
    pub(crate) fn before(&self, contender: Contender, round: usize) -> io::Result<()> {
        if contender == Contender::Changed {
            fs::write(&self.changing, [&self.before[..], &[round as u8]].concat())?;
        } else if fs::metadata(&self.changing)?.len() != self.before.len() as u64 {
            self.restore()?;
        }
        Ok(())
    }

    pub(crate) fn run(&self, contender: Contender) -> io::Result<()> {
        match contender {
            Contender::Git => git(&self.root, &["status", "--short"]),
            Contender::Warm | Contender::Changed => quiet(&mut self.key("all")),
            Contender::Slice => quiet(&mut self.key("slice")),
            Contender::Cold => quiet(self.key("all").arg("--no-stat-cache")),
            Contender::Hit => {
                let mut hit = self.smartbuild("build", "all");
                let image = format!("{}:latest", self.registry.name("bench"));
                quiet(hit.args(["--push", "--tag", &image]).env("DOCKER_HOST", "unix:///nowhere"))
            }
            Contender::Read => read_all(&self.files),
            Contender::WalkAndRead => find(&self.root)?.par_iter().try_for_each(|entry| {
                std::hint::black_box(fs::read(entry.path())?);
                Ok(())
            }),
            Contender::BuildKit => self.docker("1"),
            Contender::Classic => self.docker("0"),
        }
    }

    /// The most memory of a key of all, above that of a key of next to nothing, in bytes.
    pub(crate) fn memory(&self) -> io::Result<u64> {
        let all = peak(&mut self.key("all"))?;
        Ok(all.saturating_sub(peak(self.key("slice").arg("--no-stat-cache"))?))
    }

    /// Throws the stat cache away.
    pub(crate) fn forget(&self) -> io::Result<()> {
        fs::remove_dir_all(self.beside.path().join("cache"))
    }

    fn key(&self, dockerfile: &str) -> Command {
        self.smartbuild("key", dockerfile)
    }

    fn smartbuild(&self, verb: &str, dockerfile: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smartbuild"));
        command.arg(verb).arg("--file").arg(self.beside.path().join(dockerfile)).arg(&self.root);
        command.env("XDG_CACHE_HOME", self.beside.path().join("cache"));
        command.env("HOME", self.beside.path());
        command
    }

    fn docker(&self, buildkit: &str) -> io::Result<()> {
        // The distribution's client has BuildKit built in; newer ones need a plugin for it.
        let docker = env::var_os("SMARTBUILD_BENCH_DOCKER").unwrap_or("docker".into());
        let mut command = Command::new(docker);
        command.arg("build").arg("--quiet").arg("--file").arg(self.beside.path().join("all"));
        quiet(command.arg(&self.root).env("DOCKER_BUILDKIT", buildkit))
    }

    fn restore(&self) -> io::Result<()> {
        fs::write(&self.changing, &self.before)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.restore();
    }
}

fn find(root: &Path) -> io::Result<Vec<walkdir::DirEntry>> {
    let walk = walkdir::WalkDir::new(root).into_iter().filter_entry(|e| e.file_name() != ".git");
    let found: Result<Vec<_>, _> = walk.collect();
    Ok(found?.into_iter().filter(|entry| entry.file_type().is_file()).collect())
}

/// Opens every file by its path and reads it, with as many threads as there are processors.
fn read_all(files: &[PathBuf]) -> io::Result<()> {
    files.par_iter().try_for_each_init(
        || vec![0; 128 * 1024],
        |buffer, path| {
            let mut file = File::open(path)?;
            while file.read(buffer)? > 0 {}
            Ok(())
        },
    )
}

fn quiet(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?}: {said}")))
}

fn output(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    String::from_utf8(output.stdout).map_err(io::Error::other)
}

/// The most memory that a process had at once, in bytes, as GNU time tells it.
fn peak(command: &mut Command) -> io::Result<u64> {
    let mut time = Command::new("/usr/bin/time");
    time.args(["--format", "%M"]).arg(command.get_program()).args(command.get_args());
    time.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = time.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let kilobytes = said.lines().last().unwrap_or_default().trim();
    Ok(kilobytes.parse::<u64>().map_err(io::Error::other)? * 1024)
}
