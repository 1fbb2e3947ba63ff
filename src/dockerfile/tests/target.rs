//! Which stages and images a target reaches.

use super::*;

const STAGES: &str = "\
FROM golang AS Build
RUN build
FROM build AS test
RUN test
FROM node AS web
COPY --from=0 /a /b
FROM alpine
COPY --from=WEB /c /d
RUN --mount=from=tools,target=/t --mount=type=cache,target=/k t
FROM scratch AS last
COPY --from=build /e /f
COPY --from=nginx:1 /g /h
";

fn reached(target: Option<&str>, text: &str) -> Vec<usize> {
    let request = Request { target: target.map(str::to_owned), ..request() };
    slice_with(text, &request).stages.iter().map(|stage| stage.index).collect()
}

fn images(text: &str, request: &Request) -> Vec<String> {
    let file = parse(text.as_bytes()).unwrap();
    let images = file.images(request).unwrap();
    images.into_iter().map(|found| format!("{} {}", found.key.name, found.key.platform)).collect()
}

#[test]
fn only_the_stages_that_lead_to_the_target_count() {
    assert_eq!(reached(None, STAGES), [0, 4]);
    assert_eq!(reached(Some("LAST"), STAGES), [0, 4]);
    assert_eq!(reached(Some("test"), STAGES), [0, 1]);
    assert_eq!(reached(Some("web"), STAGES), [0, 2]);
    let error = parse(STAGES.as_bytes())
        .unwrap()
        .images(&Request { target: Some("tset".to_owned()), ..request() })
        .unwrap_err();
    assert!(
        error.to_string().contains("no stage `tset` to build: there is build, test"),
        "{error}"
    );
}

#[test]
fn a_stage_refers_to_the_places_of_others_not_to_their_names() {
    let renamed = STAGES.replace("build", "b").replace("Build", "B").replace("RUN b", "RUN build");
    assert_eq!(texts(&slice(STAGES)), texts(&slice(&renamed)));
    assert_eq!(
        texts(&slice(STAGES))[2..],
        ["FROM scratch", "COPY --from=stage=0 /e /f", "COPY --from=nginx:1 /g /h"]
    );
}

#[test]
fn images_of_reached_stages_are_found_with_the_place_of_their_names() {
    let file = parse(STAGES.as_bytes()).unwrap();
    let request = request();
    let found = file.images(&request).unwrap();
    let names: Vec<_> =
        found.iter().map(|found| (&*found.key.name, found.role, found.line)).collect();
    assert_eq!(names, [("golang", Role::Base, 1), ("nginx:1", Role::Copy, 12)]);
    for found in &found {
        assert!(STAGES[..found.end.unwrap()].ends_with(&found.key.name), "{found:?}");
    }
}

#[test]
fn names_are_expanded_with_global_arguments_only() {
    let text = "ARG TAG=3 BASE=alpine:$TAG\nFROM a AS a\nENV BASE=no\nFROM ${BASE} AS b\n\
                COPY --from=a /x /y\nARG BASE\nFROM $BASE-$TARGETARCH";
    assert_eq!(images(text, &request()), ["alpine:3-amd64 linux/amd64"]);
    let arguments = request_with([("TAG", "edge"), ("TARGETARCH", "x")]);
    assert_eq!(images(text, &arguments), ["alpine:edge-x linux/amd64"]);
    let target = Request { target: Some("b".to_owned()), ..request_with([("BASE", "busybox")]) };
    assert_eq!(images(text, &target), ["a linux/amd64", "busybox linux/amd64"]);
}

#[test]
fn a_stage_can_be_of_another_platform() {
    let text = "FROM --platform=$BUILDPLATFORM go AS a\nFROM --platform=linux/arm/v7 b\n\
                COPY --from=a / /\nCOPY --from=c / /";
    let request = Request {
        platform: "linux/arm64".parse().unwrap(),
        build_platform: "linux/amd64".parse().unwrap(),
        ..request()
    };
    assert_eq!(images(text, &request), ["go linux/amd64", "b linux/arm/v7", "c linux/arm64"]);
    let slice = slice_with(text, &request);
    assert_eq!(slice.arguments["BUILDPLATFORM"].as_deref(), Some("linux/amd64"));
    assert_eq!(texts(&slice)[0], "FROM --platform=linux/amd64 go");
}

#[test]
fn a_name_is_a_stage_only_after_it_and_only_in_lower_case() {
    let text = "FROM b AS a\nFROM a AS b\nFROM B AS c\nFROM b";
    let slice = slice(text);
    assert_eq!(slice.stages.iter().map(|stage| stage.index).collect::<Vec<_>>(), [0, 1, 3]);
    assert_eq!(slice.images.len(), 1);
    assert_eq!(slice.stages[2].base, Base::Stage(1));
    // The name of the last stage of that name; and `from` of a mount is never a number.
    let text =
        "FROM a AS s\nFROM b AS s\nFROM c\nCOPY --from=s /x /y\nRUN --mount=from=0,target=/z z";
    assert_eq!(images(text, &request()), ["b linux/amd64", "c linux/amd64", "0 linux/amd64"]);
}

#[test]
fn stages_that_read_later_ones_are_errors_only_where_they_are_reached() {
    let text = "FROM x AS a\nCOPY --from=b /x /y\nFROM x AS b\n";
    assert_eq!(reached(None, text), [1]);
    let target = Request { target: Some("a".to_owned()), ..request() };
    let error = parse(text.as_bytes()).unwrap().images(&target).unwrap_err();
    assert!(error.message().contains("comes later"), "{error}");
}

#[test]
fn a_named_context_takes_the_place_of_images_and_stages() {
    let text = "FROM alpine AS base\nRUN a\nFROM docker.io/library/alpine:latest\n\
                COPY --from=base /a /b\nCOPY --from=assets img/ /img/\n\
                RUN --mount=from=tools,source=bin,target=/t t\n";
    let contexts = ["assets", "tools", "base"].map(str::to_owned).into();
    let request = Request { contexts, ..request() };
    let slice = slice_with(text, &request);
    assert_eq!(
        texts(&slice),
        [
            "FROM context=base",
            "FROM docker.io/library/alpine:latest",
            "COPY --from=stage=0 /a /b",
            "COPY --from=context=assets img/ /img/",
            "RUN --mount=type=bind,from=context=tools,source=bin,target=/t,rw=false -- t",
        ]
    );
    let reads: Vec<_> =
        slice.reads.iter().map(|read| (read.context.as_deref(), read.kind.clone())).collect();
    let copy = ReadKind::Copy { sources: vec!["img".into()], parents: false, exclude: vec![] };
    assert_eq!(
        reads,
        [
            (Some("base"), ReadKind::All),
            (Some("assets"), copy),
            (Some("tools"), ReadKind::Bind { source: "bin".into() })
        ]
    );
    assert!(slice.features.contains(&Feature::NamedContext));

    let request = Request { contexts: ["alpine".to_owned()].into(), ..self::request() };
    let slice = slice_with(text, &request);
    assert_eq!(slice.stages[1].base, Base::Context("alpine".into()));
    let replaced: Vec<_> = slice.images.iter().map(|found| found.context.as_deref()).collect();
    assert_eq!(replaced, [Some("alpine"), Some("alpine"), None, None]);
}
