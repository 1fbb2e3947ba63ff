//! How many instructions the hot paths take, held against those that are committed: unlike times,
//! they do not depend on what else the machine does.
//!
//! ```text
//! cargo build --release --workspace && cargo bench --bench instructions            # compares
//! cargo build --release --workspace && cargo bench --bench instructions -- --save  # writes anew
//! ```
//!
//! Counted with valgrind's callgrind, which shows programs a processor without SHA instructions: what
//! is hashed weighs more than it does in life. More than 10 % above `benches/instructions.tsv` is an
//! error; so is more than 10 % below, since the next loss would hide in it.

#![allow(clippy::print_stdout, reason = "it prints what it measures")]
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use smartbuild_test_rig::{Image, Registry};
use tempfile::TempDir;

const KNOWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.tsv");
/// So few that one thread does it all: threads that wait take instructions as they please.
const FILES: usize = 150;
const TOLERANCE: f64 = 0.10;

fn main() -> io::Result<ExitCode> {
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("valgrind is not installed: nothing was counted");
        return Ok(ExitCode::SUCCESS);
    }
    let work = TempDir::new()?;
    let context = work.path().join("context");
    for number in 0..FILES {
        let path = context.join(format!("part-{}/file-{number}", number % 10));
        fs::create_dir_all(path.parent().unwrap())?;
        fs::write(path, vec![number as u8; 6_000])?;
    }
    fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY . /\n")?;
    fs::write(context.join(".dockerignore"), "**/*.pyc\n.git\nnode_modules\n!part-1\n")?;
    // What was written within the last two seconds is not cached.
    std::thread::sleep(std::time::Duration::from_secs(3));

    let smartbuild = PathBuf::from(env!("CARGO_BIN_EXE_smartbuild"));
    let helper = smartbuild.with_file_name("docker-credential-aliyun");
    let program = |path: &Path, arguments: &[&str]| {
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
        command.arg(path).args(arguments).current_dir(&context).env_clear();
        command.env("HOME", work.path()).env("PATH", "/usr/bin:/bin");
        command.env("DOCKER_HOST", "unix:///nowhere.sock");
        command
    };
    let key = |extra: &[&str]| program(&smartbuild, &[&["key", "."], extra].concat());

    let registry = Registry::open();
    let tag = output(Command::new(&smartbuild).args(["key", "."]).current_dir(&context))?;
    let image = Image::scratch().label("io.smartbuild.key", tag.trim());
    registry.push("app", tag.trim(), &image);
    let name = registry.name("app:1");
    let hit = || program(&smartbuild, &["build", "--push", "--tag", &name, "."]);
    for mut warming in [key(&[]), hit()] {
        count(&mut warming)?;
    }
    let mut get = program(&helper, &["get"]);
    get.env("REGISTRY_URL", "registry.cn-hangzhou.aliyuncs.com");
    get.env("REGISTRY_USERNAME", "ci@1234567890123456").env("REGISTRY_PASSWORD", "secret");
    let found = BTreeMap::from([
        ("smartbuild --version".to_owned(), count(&mut program(&smartbuild, &["--version"]))?),
        ("smartbuild key, stat cache".to_owned(), count(&mut key(&[]))?),
        ("smartbuild key, no stat cache".to_owned(), count(&mut key(&["--no-stat-cache"]))?),
        ("smartbuild --push, a hit".to_owned(), count(&mut hit())?),
        (
            "docker-credential-aliyun get, variables".to_owned(),
            count_with(&mut get, "registry.cn-hangzhou.aliyuncs.com")?,
        ),
    ]);

    if env::args().any(|argument| argument == "--save") {
        let lines: Vec<String> =
            found.iter().map(|(name, count)| format!("{name}\t{count}\n")).collect();
        fs::write(KNOWN, lines.concat())?;
    }
    let known = fs::read_to_string(KNOWN)?;
    let known: BTreeMap<&str, u64> = known
        .lines()
        .filter_map(|l| l.split_once('\t'))
        .map(|(n, c)| (n, c.parse().unwrap()))
        .collect();
    let mut right = true;
    for (name, count) in &found {
        let expected = known.get(name.as_str()).copied().unwrap_or_default();
        let change = *count as f64 / expected as f64 - 1.0;
        let verdict = if change.abs() <= TOLERANCE { "" } else { "   NOT AS COMMITTED" };
        right &= verdict.is_empty();
        println!("{name:<44}{count:>12} instructions {:>+6.1} %{verdict}", change * 100.0);
    }
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn count(command: &mut Command) -> io::Result<u64> {
    count_with(command, "")
}

/// Runs a program under callgrind with that input, and takes the count from what it says.
fn count_with(command: &mut Command, input: &str) -> io::Result<u64> {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = pipes.spawn()?;
    io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().find_map(|line| line.split_once("Collected : ")?.1.parse().ok());
    match count {
        Some(count) if output.status.success() => Ok(count),
        _ => Err(io::Error::other(format!("{command:?}: {said}"))),
    }
}

fn output(command: &mut Command) -> io::Result<String> {
    String::from_utf8(command.output()?.stdout).map_err(io::Error::other)
}
