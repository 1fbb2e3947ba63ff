//! The line of a step that fails, by what every builder says of it: of Dockerfiles made at random, in
//! each of which one `RUN` fails.

use std::{collections::HashMap, fmt::Write as _};

use smartbuild::{
    dockerfile::{self, BaseImage, Request},
    engine::{BuildError, BuildRequest, Endpoint, Engine, Event, Output, OutputKind},
    platform::Platform,
};
use smartbuild_test_rig::{Image, Registry, Work, unique};

use super::{Heard, apart::Apart, every::Builder, request};
use crate::dockerfile_differential::{Random, rounds};

/// A Dockerfile, the stage to build, and the line of the `RUN` that fails.
struct Made {
    text: String,
    target: Option<String>,
    line: usize,
}

/// What may stand beside the step that fails. All but the comments succeed.
const BESIDE: [&str; 16] = [
    "RUN true",
    "RUN true",
    "RUN echo $A ${B:-b} \"c  d\" \\\n\n  # why\n  && true",
    "run true",
    "RUN [\"/bin/true\"]",
    "COPY file /copied",
    "COPY file \\\n  /$A/copied",
    "ADD file /added",
    "WORKDIR /",
    "WORKDIR /work",
    "WORKDIR /$A",
    "ENV A=e",
    "ARG A=g\nARG B",
    "# a comment \\\n# and one more",
    "LABEL a=b \\\n  c=d\n",
    "ONBUILD RUN true",
];

impl Made {
    fn new(random: &mut Random, bases: &[String], fails: &str) -> Self {
        let mut text =
            random.of(&["", "# escape=\\\n\n", "ARG G=1\n", "ARG G\nARG H=2\n\n"]).to_owned();
        let count = 1 + random.below(4);
        let failing = random.below(count);
        let mut line = 0;
        let mut called: Vec<String> = Vec::new();
        for index in 0..count {
            // It is in the target, which is the last stage or this one.
            let from_failing = index + 1 == count && index > failing;
            let base = match (random.below(3), called.last()) {
                (0, Some(stage)) => stage.clone(),
                _ => bases[random.below(bases.len())].clone(),
            };
            let name = format!("s{index}");
            let named = !base.is_empty() && random.below(3) > 0;
            // Only names can be started from.
            let _ = writeln!(
                text,
                "FROM {base}{}",
                if named { format!(" AS {name}") } else { String::new() }
            );
            if named {
                called.push(name);
            }
            for _ in 0..random.below(4) {
                let _ = writeln!(text, "{}", random.of(&BESIDE));
            }
            if index == failing {
                line = text.lines().count() + 1;
                let _ = writeln!(text, "{fails}");
                for _ in 0..random.below(3) {
                    let _ = writeln!(text, "{}", random.of(&BESIDE));
                }
            }
            if from_failing {
                let _ = writeln!(text, "COPY --from={failing} / /of-it/");
            }
        }
        let target = called.last().filter(|name| **name == format!("s{failing}"));
        let target = target.filter(|_| random.below(2) == 0).cloned();
        Self { text, target, line }
    }
}

pub(super) async fn a_step_that_fails_is_found_on_its_line(
    start: impl Fn(&[&Registry]) -> Builder,
) {
    let registry = Registry::open();
    let builder = start(&[&registry]);
    let engine = builder.engine().await;
    let build = async |request: &BuildRequest, heard: &Heard| {
        engine.build(request, heard).await.map(|_| ())
    };
    look(&registry, build).await;
}

#[tokio::test]
#[ignore = "needs a buildkitd: run tests/run.sh"]
async fn a_step_that_fails_in_a_buildkitd_is_found_on_its_line() {
    let Some((daemon, host)) = Apart::buildkitd_on_tcp(Work::new(), "") else { return };
    let endpoint = Endpoint::parse(&host, "the test", None).unwrap();
    let engine = Engine::buildkitd(&endpoint).await.unwrap();
    let output = Output { kind: OutputKind::Tar, to: Some(daemon.work().join("image.tar")) };
    let build = async |request: &BuildRequest, heard: &Heard| {
        engine.export(request, &output, heard).await.map(|_| ())
    };
    look(&Registry::open(), build).await;
}

async fn look(
    registry: &Registry,
    build: impl AsyncFn(&BuildRequest, &Heard) -> Result<(), BuildError>,
) {
    let work = Work::new();
    work.write("file", unique("file"));
    let triggers = ["ENV T=t", "RUN true", "COPY file /triggered"];
    let trigger = triggers.iter().fold(Image::base().clone(), |image, text| image.onbuild(text));
    registry.push("trigger", "1", &trigger);
    let bases = [registry.push_base(), registry.name("trigger:1")];
    let mut random = Random::seeded();
    for round in 0..rounds(12) {
        let code = 1 + random.below(120);
        let fails = match random.below(3) {
            0 => format!("RUN exit {code}"),
            1 => format!("RUN echo {round} \\\n  # it ends\n  && exit {code}"),
            _ => format!("run  echo \"$A\" '{round}' ; exit {code}"),
        };
        let Made { text, target, line } = Made::new(&mut random, &bases, &fails);
        let mut request = request(&work, &text);
        request.target.clone_from(&target);
        let heard = Heard::default();
        let error = build(&request, &heard).await.unwrap_err();
        let BuildError::Step { step, exit_code, .. } = &error else { panic!("{error:?}\n{text}") };
        assert_eq!(*exit_code, i64::try_from(code).ok(), "{error}\n{text}");

        let asked = Request { target, ..Request::new(Platform::host()) };
        let file = dockerfile::parse(text.as_bytes()).unwrap();
        let known = file.images(&asked).unwrap().into_iter().map(|found| {
            let onbuild = if found.key.name == bases[0] { &[][..] } else { &triggers[..] };
            let onbuild = onbuild.iter().map(ToString::to_string).collect();
            (found.key, BaseImage { onbuild, ..BaseImage::default() })
        });
        let slice = file.slice(&asked, &known.collect()).unwrap();
        let mut lines = file.lines(&asked, &slice).unwrap();
        let mut known = HashMap::new();
        let mut found = None;
        for event in heard.0.lock().unwrap().iter() {
            match event {
                Event::StepKnown { step: id, name, place: Some(place) } => {
                    let (_, instruction) = name.split_once("] ").unwrap();
                    lines.heard_of(place, instruction);
                    known.insert(*id, (name.clone(), place.clone()));
                }
                Event::StepFailed { step: id, .. } if known[id].0 == *step => {
                    let (name, place) = &known[id];
                    found = lines.line(place, name.split_once("] ").unwrap().1);
                }
                _ => {}
            }
        }
        // Docker 20.10 may end a build before it has told of the step.
        let command = step.strip_prefix("[/bin/sh -c ").and_then(|step| step.strip_suffix(']'));
        let found = found.or_else(|| lines.line_of_command(command?));
        assert_eq!(found, Some(line), "{error}\n{text}");
    }
}
