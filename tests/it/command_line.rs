//! What is typed, and what a newcomer gets to hear about it. No engine and no registry is needed.

use smartbuild_test_rig::{Program, Work};

/// A project that is understood without asking anybody.
fn project() -> Work {
    let work = Work::new();
    work.write("Dockerfile", "FROM scratch\nCOPY file /\n").write("file", "content");
    work
}

#[test]
fn what_was_mistyped_is_named_with_what_may_have_been_meant() {
    let work = project();
    for (line, words) in [
        (&["--psuh", "."][..], &["there is no option --psuh", "did you mean --push?"][..]),
        (&["--destination", "a", "."], &["write --tag NAME and --push"]),
        (&["chek"], &["the build context chek does not exist", "smartbuild check?"]),
        (&["-v", "check", "."], &["come after the subcommand: smartbuild check"]),
        (&["buld", "."], &["`.` is one word too many"]),
        (&["https://example.com/a.git"], &["git clone"]),
        (&["-"], &["-f - for a Dockerfile alone"]),
        (&["--annotation", "a=b", "."], &["use --label"]),
    ] {
        work.run(Program::smartbuild(line)).exits(2).says(words).hides("a value, use");
    }
}

#[test]
fn docker_flags_that_mean_nothing_here_are_taken() {
    let work = project();
    let plain = work.run(Program::smartbuild(["key", "."])).success();
    for flag in ["--rm", "--force-rm", "--compress", "--rm=false"] {
        let key = work.run(Program::smartbuild(["key", flag, "."])).success();
        assert_eq!(key.stdout(), plain.stdout(), "{flag}");
    }
}

#[test]
fn the_manual_and_the_completions_have_every_option() {
    let work = Work::new();
    let manual = work.run(Program::smartbuild(["man"])).success();
    for word in ["build\\-arg", "metadata\\-file", "IMAGE_URL", "smartbuild.toml", "143"] {
        assert!(manual.stdout().contains(word), "{word}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = work.run(Program::smartbuild(["completions", shell])).success();
        assert!(script.stdout().contains("metadata-file"), "{shell}");
    }
}

#[test]
fn a_file_to_report_into_that_cannot_be_is_told_before_anything_is_built() {
    let work = project();
    for option in ["--iidfile", "--metadata-file"] {
        let line = [option, "no/such/file", "."];
        work.run(Program::smartbuild(line)).exits(2).says(&["cannot write no/such/file"]);
    }
}
