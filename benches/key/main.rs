//! What the key and a hit cost, as ratios measured in one run on one machine: against `git status`,
//! against reading every file once, and against `docker build` of the same tree.
//!
//! ```text
//! cargo bench --bench key                            # 1,000, 10,000 and 100,000 files
//! cargo bench --bench key -- 1000000                 # that many
//! cargo bench --bench key -- --large                 # four of 256 MiB among 1,000
//! cargo bench --bench key -- --engine                # with `docker build` beside it, all cached, to 100,000
//! cargo bench --bench key -- --plot performance.svg  # and a drawing of it
//! SMARTBUILD_BENCH_DIR=/somewhere cargo bench ...    # where the fixtures are made and kept
//! ```
//!
//! The fixtures are Git repositories of 100 files a directory, 6 kB a file on average. Every figure
//! is that of a whole process, the best of several rounds, with the contenders taking turns.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints what it measures")]
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod contenders;
mod fixture;
mod plot;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use contenders::{Bench, Contender};
use plot::Plot;

/// The most files that `docker build` is measured with: beyond, it is a matter of minutes.
const MOST_BUILT: usize = 100_000;

fn main() -> io::Result<()> {
    let (mut counts, mut plot_file, mut engine, mut large) = (Vec::new(), None, false, 0);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--plot" => plot_file = arguments.next(),
            "--engine" => engine = true,
            "--large" => (counts, large) = (vec![1_000], 4),
            "--bench" => {}
            other => counts.push(other.parse().map_err(io::Error::other)?),
        }
    }
    if counts.is_empty() {
        counts = vec![1_000, 10_000, 100_000];
    }
    let base = env::var_os("SMARTBUILD_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
    let mut plot = Plot::default();
    let mut before: Option<(usize, Measured)> = None;
    for count in counts {
        let name = if large > 0 { "large".to_owned() } else { count.to_string() };
        let root = base.join(format!("smartbuild-bench-{name}"));
        fixture::make(&root, count, large)?;
        let measured = measure(&root, count, engine && count <= MOST_BUILT)?;
        measured.print(count, fixture::bytes(&root)?);
        if let Some((smaller, before)) = &before {
            for contender in [Contender::Warm, Contender::Cold] {
                let slope = measured.of(contender).zip(before.of(contender));
                let (now, then) = slope.unwrap_or_default();
                let name = contender.name();
                println!("  {count} against {smaller} files, {name}: x{:.1}", ratio(now, then));
            }
        }
        for (contender, time) in &measured.best {
            plot.add(contender.name(), count, *time);
        }
        before = Some((count, measured));
    }
    if let Some(file) = plot_file {
        fs::write(file, plot.draw())?;
    }
    Ok(())
}

/// The best time of each contender, and the memory of a key, in bytes.
struct Measured {
    best: Vec<(Contender, Duration)>,
    memory_warm: u64,
    memory_first: u64,
}

fn measure(root: &Path, count: usize, engine: bool) -> io::Result<Measured> {
    let bench = Bench::new(root)?;
    let contenders = Contender::all(engine);
    let mut best = Vec::new();
    for contender in &contenders {
        bench.prepare(*contender)?;
        best.push((*contender, Duration::MAX));
    }
    let rounds = if count > 100_000 { 3 } else { 11 };
    for round in 0..rounds {
        for (contender, best) in &mut best {
            if contender.is_slow() && round >= 3 {
                continue;
            }
            bench.before(*contender, round)?;
            let start = Instant::now();
            bench.run(*contender)?;
            *best = (*best).min(start.elapsed());
        }
    }
    let memory_warm = bench.memory()?;
    bench.forget()?;
    let memory_first = bench.memory()?;
    Ok(Measured { best, memory_warm, memory_first })
}

impl Measured {
    fn of(&self, wanted: Contender) -> Option<Duration> {
        self.best.iter().find(|(contender, _)| *contender == wanted).map(|(_, time)| *time)
    }

    fn print(&self, count: usize, bytes: u64) {
        println!("{count} files, {} MB:", bytes / 1_000_000);
        for (contender, time) in &self.best {
            print!("  {:<44}{:>10.1} ms", contender.name(), time.as_secs_f64() * 1e3);
            for other in contender.against() {
                if let Some(other_time) = self.of(*other) {
                    print!("   {:>5.2} of {}", ratio(*time, other_time), other.name());
                }
            }
            println!();
        }
        for (name, bytes) in [("warm", self.memory_warm), ("first run", self.memory_first)] {
            println!(
                "  memory, {name:<36}{:>10.1} MB   {:>5} bytes a file",
                bytes as f64 / 1e6,
                bytes / count as u64
            );
        }
    }
}

fn ratio(time: Duration, other: Duration) -> f64 {
    time.as_secs_f64() / other.as_secs_f64()
}
