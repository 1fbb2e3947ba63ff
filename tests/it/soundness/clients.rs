//! What we build is what the engine's own client builds: what an engine is served by us (the files
//! that are in the key, the Dockerfile with its bases pinned) makes the same image.
//!
//! The client of 20.10 reads exceptions in ignore files in a way of its own: with them it sends empty
//! directories that its successors leave out, and leaves out files that these send (tonistiigi/fsutil:
//! `walker.go`). What they mean is held against their own library, so that there are none here.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::{Bench, built::Built, maker, number, oracle::Oracle, summary};

#[test]
#[ignore = "needs an engine and a registry: run tests/run.sh"]
fn what_we_build_is_what_the_engines_own_client_builds() {
    let (bench, ours) = (Bench::new(), Oracle::ours());
    let count = number("SMARTBUILD_TEST_CASES").unwrap_or(14);
    let first = number("SMARTBUILD_TEST_SEED").unwrap_or_else(|| u64::from(Rng::new().u32(..)));
    summary::say(&format!("clients: {count} cases from seed {first}"));
    let (mut same, mut faults) = (0, Vec::new());
    for seed in first..first + count {
        let mut case = maker::case(seed, bench.features);
        case.ignore_without_exceptions();
        bench.servers.publish(&case, None);
        let hosts = bench.servers.hosts();
        let laid = case.lay(&hosts);
        let fault = match (bench.oracle.case(&case, &laid, &hosts), ours.case(&case, &laid, &hosts))
        {
            (Ok(theirs), Ok(ours)) => {
                let (theirs, ours) = (plain(theirs), plain(ours));
                same += usize::from(theirs == ours);
                (theirs != ours).then(|| theirs.difference(&ours))
            }
            (Err(_), Err(_)) => None,
            (Ok(_), Err(text)) => Some(format!("only we cannot build it:\n{text}")),
            // The client of 20.10 cannot read how newer engines ask for such a name.
            (Err(text), Ok(_)) if text.contains("not found") && !text.is_ascii() => None,
            // The client of 20.10 gives up where a wildcard goes on below a link to a file.
            (Err(text), Ok(_))
                if text.contains("readdirent") && text.contains("not a directory") =>
            {
                None
            }
            (Err(text), Ok(_)) => Some(format!("only we can build it:\n{text}")),
        };
        if let Some(fault) = fault {
            let fault = format!("##### seed {seed}\n{case}\n{fault}");
            summary::say(&fault);
            faults.push(fault);
        }
    }
    summary::say(&format!("clients: {same} images are the same, {} faults", faults.len()));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The image with the permissions that Git knows: those of a checkout are not in the key, and files
/// are served with these.
fn plain(built: Built) -> Built {
    let mode = |text: &str| -> String {
        let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        if let Some(mode) = words.get(1).and_then(|mode| u32::from_str_radix(mode, 8).ok()) {
            let bits = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
            words[1] = format!("{:o}", mode & 0o7000 | bits);
        }
        words.join(" ")
    };
    let files: BTreeMap<_, _> =
        built.files.into_iter().map(|(path, text)| (path, mode(&text))).collect();
    Built { files, config: built.config }
}
