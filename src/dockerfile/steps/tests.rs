//! Lines by what engines call their steps.

use proptest::prelude::*;

use super::*;
use crate::dockerfile::{BaseImage, parse};

fn lines_with(text: &str, target: Option<&str>, triggers: &[&str]) -> Lines {
    let request = Request {
        target: target.map(str::to_owned),
        ..Request::new("linux/amd64".parse().unwrap())
    };
    let file = parse(text.as_bytes()).unwrap();
    let base = BaseImage {
        onbuild: triggers.iter().map(ToString::to_string).collect(),
        ..BaseImage::default()
    };
    let images = file.images(&request).unwrap().into_iter();
    let bases = images.map(|found| (found.key, base.clone())).collect();
    let slice = file.slice(&request, &bases).unwrap();
    file.lines(&request, &slice).unwrap()
}

fn lines(text: &str) -> Lines {
    lines_with(text, None, &[])
}

/// The line of `[build 2/5] RUN make`.
fn buildkit(lines: &Lines, name: &str) -> Option<usize> {
    let (place, instruction) = name.strip_prefix('[').unwrap().split_once("] ").unwrap();
    let (stage, numbers) = match place.trim().rsplit_once(' ') {
        Some((stage, numbers)) => (Some(stage.trim().to_owned()), numbers),
        None => (None, place),
    };
    let (number, total) = numbers.trim().split_once('/').unwrap();
    let (number, total) = (number.parse().unwrap(), total.parse().unwrap());
    lines.line(&Place { counted: Counted::Layers { stage }, number, total }, instruction)
}

#[test]
fn a_step_of_buildkit_is_found_by_its_stage_and_number() {
    let text = "# syntax=docker/dockerfile:1\nFROM a AS Build\nENV A=b\n\nCOPY x /\n\
                RUN one \\\n  # why\n  two\n\nFROM scratch\nARG V\nCOPY --from=build /x /\n\
                FROM build\nRUN one two\nCOPY --from=1 /x /w\nRUN last\n";
    let lines = lines(text);
    for (name, line) in [
        ("[build 1/3] FROM docker.io/library/a", None),
        ("[build 2/3] COPY x /", Some(5)),
        ("[build 3/3] RUN one   two", Some(6)),
        ("[stage-1 1/1] COPY --from=build /x /", Some(12)),
        ("[stage-2 1/3] RUN one two", Some(14)),
        ("[stage-2 3/3] RUN last", Some(16)),
        // What does not fit is not given.
        ("[build 3/4] RUN one two", None),
        ("[build 3/3] RUN one", None),
        ("[build 9/3] RUN one two", None),
        ("[build 0/3] RUN one two", None),
        ("[other 3/3] RUN one two", None),
        ("[3/3] RUN one two", None),
    ] {
        assert_eq!(buildkit(&lines, name), line, "{name}");
    }
}

#[test]
fn a_stage_that_is_alone_has_no_name_unless_an_image_is_copied_from() {
    let lines = lines("FROM a AS one\nRUN x\nCOPY --from=b y /\n");
    assert_eq!(buildkit(&lines, "[2/3] RUN x"), Some(2));
    assert_eq!(buildkit(&lines, "[one 2/3] RUN x"), Some(2));
}

#[test]
fn a_directory_that_is_the_root_has_no_number() {
    let text = "FROM a\nWORKDIR /\nRUN x\nRUN y\nWORKDIR .\nRUN z\nRUN z\n";
    let mut lines = lines(text);
    let from = Place { counted: Counted::Layers { stage: None }, number: 1, total: 7 };
    lines.heard_of(&from, "FROM docker.io/library/a");
    assert_eq!(buildkit(&lines, "[2/7] RUN x"), Some(3));
    assert_eq!(buildkit(&lines, "[3/7] RUN y"), Some(4));
    assert_eq!(buildkit(&lines, "[3/7] RUN x"), Some(3), "if / were a layer");
    assert_eq!(buildkit(&lines, "[5/7] RUN z"), None, "which one?");
}

#[test]
fn a_base_without_files_has_no_number() {
    let text = "FROM a\nRUN x\nRUN y\nRUN y\n";
    let mut lines = lines(text);
    assert_eq!(buildkit(&lines, "[1/4] RUN x"), Some(2));
    assert_eq!(buildkit(&lines, "[2/4] RUN y"), Some(3));
    assert_eq!(buildkit(&lines, "[3/4] RUN y"), None, "which one?");
    let from = Place { counted: Counted::Layers { stage: None }, number: 1, total: 4 };
    lines.heard_of(&from, "FROM docker.io/library/a@sha256:12");
    assert_eq!(buildkit(&lines, "[3/4] RUN y"), Some(3));
    assert_eq!(buildkit(&lines, "[4/4] RUN y"), Some(4));
}

#[test]
fn triggers_of_a_base_shift_what_follows_and_stand_where_the_base_does() {
    let text = "FROM a AS one\nRUN x\nONBUILD RUN t\nFROM one\nRUN y\n";
    let lines = lines_with(text, None, &["ENV A=b", "RUN trigger"]);
    for (name, line) in [
        // Before v0.20 of BuildKit, triggers are not in the total.
        ("[one 2/2] RUN trigger", Some(1)),
        ("[one 3/2] RUN x", Some(2)),
        ("[one 2/4] ONBUILD RUN trigger", Some(1)),
        ("[one 3/4] RUN x", Some(2)),
        ("[one 3/3] RUN x", None),
        ("[stage-1 1/1] RUN t", Some(4)),
        ("[stage-1 2/1] RUN y", Some(5)),
    ] {
        assert_eq!(buildkit(&lines, name), line, "{name}");
    }
    let of_stage = |stage, number, total, instruction| {
        lines.line(&Place { counted: Counted::OfStage(Some(stage)), number, total }, instruction)
    };
    assert_eq!(of_stage(1, 2, 3, "RUN x"), Some(2), "triggers that were not run");
    assert_eq!(of_stage(1, 4, 5, "RUN x"), Some(2));
    assert_eq!(of_stage(1, 3, 5, "RUN trigger"), Some(1));
    assert_eq!(of_stage(2, 3, 3, "RUN y"), Some(5));
    assert_eq!(of_stage(2, 3, 5, "RUN y"), None);
}

#[test]
fn a_base_that_is_not_known_may_have_triggers() {
    let text = "FROM a\nRUN x\n";
    let request = Request::new("linux/amd64".parse().unwrap());
    let file = parse(text.as_bytes()).unwrap();
    let slice = file.slice(&request, &BTreeMap::new()).unwrap();
    let lines = file.lines(&request, &slice).unwrap();
    assert_eq!(buildkit(&lines, "[2/2] RUN x"), None);
    let place = Place { counted: Counted::OfFile, number: 2, total: 2 };
    assert_eq!(lines.line(&place, "RUN x"), Some(2), "the classic builder counts none");
}

#[test]
fn the_classic_builder_counts_every_instruction_up_to_the_target() {
    let text = "ARG A\nARG B=1\nFROM a AS one\nARG C\nRUN x\nFROM a\nRUN y\n";
    let of = |target, number, total, instruction| {
        let place = Place { counted: Counted::OfFile, number, total };
        lines_with(text, target, &[]).line(&place, instruction)
    };
    assert_eq!(of(None, 7, 7, "RUN y"), Some(7));
    assert_eq!(of(None, 5, 8, "RUN x"), Some(5), "with a label");
    assert_eq!(of(Some("one"), 5, 5, "RUN x"), Some(5));
    assert_eq!(of(Some("one"), 7, 7, "RUN y"), None);
    assert_eq!(of(None, 5, 7, "RUN z"), None);
    assert_eq!(of(None, 2, 7, "ARG B=1"), None);
}

#[test]
fn variables_quotes_and_blanks_do_not_hide_an_instruction() {
    let text = "FROM a\nENV D=/d\nCOPY \"a\" $D/x\nCOPY a ${D:-${E}}/y\n\
                run echo  '$D' $(pwd) \\\n x\nRUN <<E\nfirst\nE\n";
    let lines = lines(text);
    for (name, line) in [
        ("[2/5] COPY a /d/x", Some(3)),
        ("[3/5] COPY a /d/y", Some(4)),
        ("[3/5] COPY a /d/z", None),
        ("[4/5] RUN echo  '$D' $(pwd)  x", Some(5)),
        ("[4/5] RUN echo $(pwd) '/d' x", None),
        ("[5/5] RUN <<E (first)", Some(7)),
    ] {
        assert_eq!(buildkit(&lines, name), line, "{name}");
    }
}

#[test]
fn a_command_is_found_where_there_is_but_one() {
    let lines = lines("FROM a AS b\nRUN --network=none exit 3\nRUN x\nFROM b\nRUN x\n");
    assert_eq!(lines.line_of_command("exit 3"), Some(2));
    assert_eq!(lines.line_of_command("x"), None);
    assert_eq!(lines.line_of_command("y"), None);
}

#[test]
fn a_place_prints_as_editors_read_it() {
    let at = |file: Option<&str>| Location { file: file.map(str::to_owned), line: 7 };
    assert_eq!(at(Some("docker/app.Dockerfile")).to_string(), "docker/app.Dockerfile:7");
    assert_eq!(at(None).to_string(), "line 7");
}

/// An instruction, and whether BuildKit counts it; `RUN` comes as often as all else.
fn instruction() -> impl Strategy<Value = (String, bool)> {
    prop_oneof![
        3 => "[ab]{1,2}".prop_map(|word| (format!("RUN {word}"), true)),
        1 => Just(("COPY \\\n  # what\n\n  x /".to_owned(), true)),
        1 => Just(("WORKDIR /w".to_owned(), true)),
        1 => Just(("\n# a comment\nENV A=1".to_owned(), false)),
        1 => Just(("LABEL l=1".to_owned(), false)),
    ]
}

proptest! {
    /// What each engine would call a step leads to its line, as the engines' own rules number it.
    #[test]
    fn every_step_is_found_or_not_given(
        made in prop::collection::vec(
            (any::<bool>(), prop::collection::vec(instruction(), 0..5)), 1..4
        ),
    ) {
        let mut text = "ARG G=1\n".to_owned();
        let line_of = |text: &str| text.lines().count() + 1;
        // Line, text, stage, and the numbers of BuildKit, buildah and the classic builder.
        let mut steps: Vec<(usize, String, usize, [usize; 3])> = Vec::new();
        let mut totals = Vec::new();
        let mut in_file = 1;
        for (index, (before, body)) in made.iter().enumerate() {
            let from_stage = *before && index > 0;
            let base = if from_stage { format!("s{}", index - 1) } else { "base".to_owned() };
            text.push_str(&format!("FROM {base} AS s{index}\n"));
            let (mut layers, mut of_stage) = (usize::from(!from_stage), 1);
            in_file += 1;
            for (instruction, counts) in body {
                in_file += 1;
                of_stage += 1;
                layers += usize::from(*counts);
                if *counts {
                    let shown = instruction.replace("\\\n  # what\n\n", "");
                    let numbers = [layers, of_stage, in_file];
                    steps.push((line_of(&text), shown, index, numbers));
                }
                text.push_str(instruction);
                text.push('\n');
            }
            totals.push((layers, of_stage));
        }
        let target = format!("s{}", made.len() - 1);
        let mut lines = lines_with(&text, Some(&target), &[]);
        let small = |number: usize| u32::try_from(number).unwrap();
        let name = |index: usize| (made.len() > 1).then(|| format!("s{index}"));
        for (index, (before, _)) in made.iter().enumerate() {
            let counted = Counted::Layers { stage: name(index) };
            if !(*before && index > 0) {
                let place = Place { counted, number: 1, total: small(totals[index].0) };
                lines.heard_of(&place, "FROM docker.io/library/base");
            }
        }
        for (line, shown, stage, [layer, number, through]) in steps {
            let (layers, all) = totals[stage];
            let place = |counted, number, total| Place {
                counted, number: small(number), total: small(total),
            };
            // A stage that the target does not reach is not built by these.
            if lines.stages[stage].triggers.is_some() {
                let counted = Counted::Layers { stage: name(stage) };
                let found = lines.line(&place(counted, layer, layers), &shown);
                prop_assert_eq!(found, Some(line), "{}\n{}", &text, &shown);
                let counted = Counted::OfStage((made.len() > 1).then(|| small(stage + 1)));
                let found = lines.line(&place(counted, number, all), &shown);
                prop_assert_eq!(found, Some(line), "{}\n{}", &text, &shown);
            }
            let found = lines.line(&place(Counted::OfFile, through, in_file), &shown);
            prop_assert_eq!(found, Some(line), "{}\n{}", &text, &shown);
        }
    }

    #[test]
    fn nothing_that_an_engine_says_panics(
        stage in prop::option::of("[a-z0-9-]{0,8}"),
        number: u32, total: u32, kind in 0..3_u8, small: bool, shown in ".{0,20}",
    ) {
        let (number, total) = if small { (number % 4, total % 4) } else { (number, total) };
        let counted = match kind {
            0 => Counted::Layers { stage },
            1 => Counted::OfStage(Some(number)),
            _ => Counted::OfFile,
        };
        let mut lines = lines("ARG A\nFROM a\nRUN $\nFROM b\nRUN ${\n");
        let place = Place { counted, number, total };
        lines.heard_of(&place, "FROM ");
        let _ = lines.line(&place, &shown);
    }
}
