//! The live view, in a terminal with somebody in front of it.

use smartbuild_test_rig::{Engine, Program, Registry, Terminal, Work, unique};

/// Every line of a screen, which no line may be wider than.
#[track_caller]
fn fits(screen: &str, columns: usize) {
    for line in screen.lines() {
        assert!(line.chars().count() <= columns, "too wide: {line}");
    }
}

/// A project whose build takes these steps; no build before had them.
fn project(registry: &Registry, steps: &str) -> Work {
    let work = Work::new();
    let base = registry.push_base();
    work.write("name", unique("file"));
    work.write("Dockerfile", format!("FROM {base}\nCOPY name /\n{steps}"));
    work
}

fn smartbuild(engine: &Engine, arguments: &[&str]) -> Program {
    Program::smartbuild(arguments).engine(engine)
}

/// A step that every test ends before it does.
const FOREVER: &str = "RUN echo it begins && sleep 600\n";

#[test]
#[ignore = "needs an engine and tmux: run tests/run.sh"]
fn a_build_that_works_leaves_a_short_summary() {
    let (engine, registry, terminal) = (Engine::get(), Registry::open(), Terminal::open(24, 80));
    let work = project(&registry, "RUN for i in 1 2 3 4 5 6 7 8 9; do echo line $i; done\n");
    let name = format!("{}:1", registry.name(&unique("live")));
    terminal.run(smartbuild(engine, &["-t", &name, "--push", "."]), &work);
    let left = terminal.end();
    assert!(left.contains("ended with 0"), "{left}");
    assert!(left.contains("smartbuild: building: there is no image of these inputs yet"), "{left}");
    assert!(left.contains("built     "), "{left}");
    assert!(left.contains("smartbuild: built the image of sb1-"), "{left}");
    for gone in ["building  ", "line 9", "push  ", "done "] {
        assert!(!left.contains(gone), "{gone}\n{left}");
    }
    assert!(terminal.cursor_is_shown());
    fits(&left, 80);
    engine.forget(&name);
}

#[test]
#[ignore = "needs an engine and tmux: run tests/run.sh"]
fn a_step_that_fails_leaves_all_that_it_wrote() {
    let (engine, registry, terminal) = (Engine::get(), Registry::open(), Terminal::open(24, 80));
    let fails = "RUN for i in $(seq 60); do echo line $i of much; done; echo why >&2; exit 3\n";
    let work = project(&registry, fails);
    terminal.run(smartbuild(engine, &["."]), &work);
    let left = terminal.end();
    assert!(left.contains("ended with 1"), "{left}");
    assert!(left.contains("failed    [3/3] RUN for i in"), "{left}");
    for line in 1..=60 {
        assert!(left.contains(&format!("\nline {line} of much\n")), "line {line}\n{left}");
    }
    assert_eq!(left.matches("line 60 of much").count(), 1, "{left}");
    assert!(left.contains("\nwhy\n") && left.contains("failed with exit code 3"), "{left}");
}

#[test]
#[ignore = "needs an engine and tmux: run tests/run.sh"]
fn ctrl_c_stops_the_build_and_leaves_the_terminal_as_it_was() {
    let (engine, registry, terminal) = (Engine::get(), Registry::open(), Terminal::open(24, 80));
    let work = project(&registry, FOREVER);
    terminal.run(smartbuild(engine, &["."]), &work);
    let screen = terminal.until("running step", |screen| screen.contains("| it begins"));
    assert!(screen.contains("run       [3/3] RUN echo it begins && sleep 600"), "{screen}");
    assert!(screen.contains("building  "), "{screen}");
    fits(&screen, 79);
    terminal.keys(&["C-c"]);
    let left = terminal.end();
    assert!(left.contains("ended with 130"), "{left}");
    assert!(left.contains("stopped   [3/3] RUN echo it begins && sleep 600"), "{left}");
    assert!(left.contains("smartbuild: error: interrupted; nothing was published"), "{left}");
    assert!(!left.contains("building  ") && !left.contains("| it begins"), "{left}");
    assert!(terminal.cursor_is_shown());
    // What is typed is seen, where it is typed.
    terminal.keys(&["echo on it goes", "Enter"]);
    terminal.until("output", |screen| screen.lines().any(|line| line == "on it goes"));
}

#[test]
#[ignore = "needs an engine and tmux: run tests/run.sh"]
fn a_window_may_change_its_size() {
    let (engine, registry, terminal) = (Engine::get(), Registry::open(), Terminal::open(24, 80));
    let text = "a line that is longer than the window will be when it has become narrow";
    let many = format!("RUN for i in 1 2; do echo $i {text}; done; sleep 600\n");
    let work = project(&registry, &many);
    terminal.run(smartbuild(engine, &["."]), &work);
    terminal.until("running step", |screen| screen.contains("| 2 a line"));
    // What a window has pushed out at its top cannot be taken back: it always has room here.
    for (rows, columns) in [(24, 40), (30, 120), (24, 80), (6, 80)] {
        terminal.resize(rows, columns);
        let screen = terminal.until("drawing of that size", |screen| {
            let heads: Vec<_> =
                screen.lines().filter(|line| line.starts_with("building ")).collect();
            let [head] = heads.as_slice() else { return false };
            // The clock stands at the right.
            head.chars().count() == (columns - 1).min(100) && screen.contains("run       [3/3]")
        });
        assert_eq!(screen.matches("run       [3/3]").count(), 1, "{screen}");
        fits(&screen, columns);
    }
    terminal.keys(&["C-c"]);
    terminal.end();
    let left = terminal.screen();
    assert!(!left.contains("building  "), "{left}");
    assert_eq!(left.matches("stopped   [3/3]").count(), 1, "{left}");
}

#[test]
#[ignore = "needs an engine and tmux: run tests/run.sh"]
fn colours_and_drawing_are_as_the_environment_wants_them() {
    let (engine, registry) = (Engine::get(), Registry::open());
    let escape = |program: Program| {
        let terminal = Terminal::open(24, 80);
        let work = project(&registry, "");
        terminal.run(program, &work);
        let left = terminal.end();
        assert!(left.contains("ended with 0"), "{left}");
        (terminal.painted().contains("\u{1b}["), left)
    };
    let (painted, left) = escape(smartbuild(engine, &["."]));
    assert!(painted && left.contains("built     "), "{left}");
    let (painted, left) = escape(smartbuild(engine, &["."]).env("NO_COLOR", "1"));
    assert!(!painted && left.contains("built     "), "{left}");
    let (painted, left) = escape(smartbuild(engine, &["."]).env("TERM", "dumb"));
    assert!(!painted && left.contains("DONE ") && !left.contains("built     "), "{left}");
    let (painted, left) = escape(smartbuild(engine, &["--progress=plain", "."]));
    assert!(!painted && left.contains("DONE "), "{left}");
}

#[test]
#[ignore = "needs an engine: run tests/run.sh"]
fn where_there_is_no_terminal_there_are_lines_and_no_escapes() {
    let (engine, registry) = (Engine::get(), Registry::open());
    let work = project(&registry, "RUN echo it runs\n");
    let ran = work.run(smartbuild(engine, &["--progress=tty", "."])).success();
    assert!(ran.stderr().contains("#") && ran.stderr().contains(" it runs\n"));
    assert!(!ran.stderr().contains('\u{1b}'));

    let work = project(&registry, "RUN echo it runs\n");
    let ran = work.run(smartbuild(engine, &["--progress=rawjson", "."])).success();
    // Nothing else is said there.
    let events = ran.stderr().lines().map(|line| serde_json::from_str(line).unwrap());
    let events: Vec<serde_json::Value> = events.collect();
    // `it runs`, in base64.
    let logs = events.iter().flat_map(|event| event["logs"].as_array()).flatten();
    let log = logs.filter(|log| log["data"] == "aXQgcnVucwo=").collect::<Vec<_>>();
    assert_eq!(log.len(), 1, "{}", ran.text());
    let vertexes = events.iter().flat_map(|event| event["vertexes"].as_array()).flatten();
    let told: Vec<_> = vertexes.filter(|vertex| vertex["digest"] == log[0]["vertex"]).collect();
    assert_eq!(told[0]["name"], "[3/3] RUN echo it runs");
    assert!(told.last().unwrap()["completed"].is_string());

    let work = project(&registry, "RUN echo it runs\n");
    let ran = work.run(smartbuild(engine, &["--progress=quiet", "."])).success();
    assert!(ran.stdout().starts_with("sha256:") && ran.stdout().lines().count() == 1);
    assert_eq!(ran.stderr(), "");
}
