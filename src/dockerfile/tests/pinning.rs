//! Digests behind names, and nothing else.

use proptest::prelude::*;

use super::*;

const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// The text with every image pinned to the same digest, written short.
fn pinned(text: &str, request: &Request) -> String {
    let file = parse(text.as_bytes()).unwrap();
    let images = file.images(request).unwrap();
    let frontend = file.frontend(request);
    let frontend = frontend.as_ref().map(|frontend| (frontend, DIGEST));
    let pinned = file.pin(images.iter().map(|found| (found, Some(DIGEST))), frontend).unwrap();

    // The engine reads the pinned text as the same Dockerfile on pinned images.
    let after = parse(&pinned).unwrap();
    let names = |file: &Dockerfile| -> Vec<String> {
        file.images(request).unwrap().into_iter().map(|found| found.key.name).collect()
    };
    let expected = images.iter().map(|found| match found.context {
        None if !found.key.name.contains('@') => format!("{}@{DIGEST}", found.key.name),
        _ => found.key.name.clone(),
    });
    assert_eq!(names(&after), expected.collect::<Vec<_>>(), "{text}");
    let lines = |text: &[u8]| text.iter().filter(|&&b| b == b'\n').count();
    assert_eq!(lines(&pinned), lines(text.as_bytes()), "{text}");
    String::from_utf8(pinned).unwrap().replace(DIGEST, "D")
}

#[test]
fn every_place_that_names_an_image_gets_its_digest() {
    // `@` in the pinned text is where the digest was put.
    for expected in [
        "FROM alpine:3@",
        "from  --platform=linux/amd64 \\\n alpine@  as  x\n",
        "ARG B=a:1\nFROM ${B}@",
        "ARG B=a:1\nFROM $B@ AS c",
        "ARG T\nFROM a:${T:-1}@",
        "FROM \"a\":'1'@",
        "FROM alp\\\nine\\\n:3@\r\nRUN x",
        "\u{feff}FROM a@",
        "FROM a@ AS a\nFROM a\nCOPY --from=a / /\nCOPY --from=A / /",
        "FROM a@\nCOPY --from=\"b:1@\" --link x y",
        "FROM a@\nCOPY --from=b\\\n:1@ x y",
        "FROM scratch\nRUN --mount=type=bind,from=b@,target=/b --mount='target=/c,\"from=c@\"' x",
        "# syntax=docker/dockerfile:1@ x\nFROM a@",
    ] {
        let text = expected.replace('@', "");
        assert_eq!(pinned(&text, &request()), expected.replace('@', "@D"), "{text}");
    }
    for text in ["FROM a@sha256:11", "# syntax=docker/dockerfile:1@sha256:1\nFROM scratch"] {
        assert_eq!(pinned(text, &request()), text);
    }
}

#[test]
fn unreached_stages_and_named_contexts_stay_as_they_are() {
    let text = "FROM a\nFROM b\nCOPY --from=c / /\n";
    let contexts = ["c".to_owned()].into();
    assert_eq!(
        pinned(text, &Request { contexts, ..request() }),
        text.replace("FROM b", "FROM b@D")
    );
}

#[test]
fn an_image_takes_the_place_of_the_context_that_stands_for_it() {
    let images =
        [("base", "r.example/a:1"), ("tools::linux/arm64", "r.example/t"), ("s", "b@sha256:9")];
    let images = images.map(|(name, image)| (name.to_owned(), image.to_owned())).into();
    let request = Request { images, ..Request::new("linux/arm64".parse().unwrap()) };
    for (text, expected) in [
        ("FROM base:latest\n", "FROM r.example/a:1@D\n"),
        ("ARG B=base\nFROM  ${B} AS x\n", "ARG B=base\nFROM  r.example/a:1@D AS x\n"),
        ("FROM \"base\"", "FROM r.example/a:1@D"),
        ("FROM a\nCOPY --from=base x y", "FROM a@D\nCOPY --from=r.example/a:1@D x y"),
        ("FROM a\nCOPY --from=\"tools\" x y", "FROM a@D\nCOPY --from=\"r.example/t@D\" x y"),
        (
            "FROM a\nRUN --mount=from=tools,target=/t --mount='target=/c,\"from=base\"' x",
            "FROM a@D\nRUN --mount=from=r.example/t@D,target=/t --mount='target=/c,\"from=r.example/a:1@D\"' x",
        ),
        // Every line stands where it stood.
        ("FROM ba\\\nse AS x\nRUN y", "FROM r.example/a:1@D\\\n AS x\nRUN y"),
        (
            "FROM a AS s\nRUN x\n\nFROM s\nRUN y\nFROM b\nCOPY --from=s / /\n",
            "FROM b@sha256:9 AS s\n\n\nFROM s\nRUN y\nFROM b@D\nCOPY --from=s / /\n",
        ),
        ("FROM s", "FROM b@sha256:9"),
    ] {
        let file = parse(text.as_bytes()).unwrap();
        let uses = file.images(&request).unwrap();
        let pinned = file.pin(uses.iter().map(|found| (found, Some(DIGEST))), None).unwrap();
        let pinned = String::from_utf8(pinned).unwrap();
        assert_eq!(pinned.replace(DIGEST, "D"), expected);
        // What is served is the Dockerfile of somebody who wrote the images there, and so is its key.
        let digest = format!("@{DIGEST}");
        let without = pinned.replace(&digest, "");
        let slice = |text: &str, request: &Request| {
            parse(text.as_bytes()).unwrap().slice(request, &BTreeMap::new()).unwrap()
        };
        let texts = |slice: Slice| {
            let all = slice.stages.into_iter().flat_map(|stage| stage.instructions);
            all.map(|instruction| instruction.text).collect::<Vec<_>>()
        };
        let plain = Request { images: BTreeMap::new(), ..request.clone() };
        assert_eq!(texts(slice(text, &request)), texts(slice(&without, &plain)), "{text}");
    }
    // An image that only the engine has is named without a digest.
    let file = parse(b"FROM base").unwrap();
    let uses = file.images(&request).unwrap();
    let pinned = file.pin(uses.iter().map(|found| (found, None)), None).unwrap();
    assert_eq!(pinned, b"FROM r.example/a:1");
}

#[test]
fn a_trigger_cannot_read_a_context_that_is_an_image() {
    let images = [("tools".to_owned(), "t".to_owned())].into();
    let request = Request { images, ..request() };
    let file = parse(b"FROM a").unwrap();
    let uses = file.images(&request).unwrap();
    let base = BaseImage { env: vec![], onbuild: vec!["COPY --from=tools / /".to_owned()] };
    let error = file.slice(&request, &[(uses[0].key.clone(), base)].into()).unwrap_err();
    assert!(error.to_string().contains("reads the build context `tools`"), "{error}");
}

#[test]
fn one_place_with_two_digests_is_a_conflict() {
    let file = parse(b"FROM scratch AS s\nARG TARGETARCH\nFROM a-$TARGETARCH\n").unwrap();
    let amd = file.images(&request()).unwrap();
    let arm = Request::new("linux/arm64".parse().unwrap());
    let arm = file.images(&arm).unwrap();
    let uses = [(&amd[0], Some("sha256:1")), (&arm[0], Some("sha256:2"))];
    let conflict = file.pin(uses, None).unwrap_err();
    assert_eq!((conflict.line, conflict.name.as_str()), (3, "a-arm64"));
    let same = file.pin([(&amd[0], Some("sha256:1")), (&arm[0], Some("sha256:1"))], None);
    assert!(same.unwrap().ends_with(b"FROM a-$TARGETARCH@sha256:1\n"));
}

proptest! {
    #[test]
    fn without_digests_nothing_changes(text in "(FROM [a-z$]{1,4}( AS [a-z])?\n|RUN [ -~]{0,9}\n){1,5}") {
        if let Ok(file) = parse(text.as_bytes()) {
            prop_assert_eq!(file.pin([], None).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn pinning_changes_the_names_of_the_images_alone(
        names in prop::collection::vec("[a-z]{1,5}(:[a-z0-9.]{1,4})?", 3),
        quote in prop::sample::select(vec!["", "\"", "'"]),
        blanks in prop::sample::select(vec![" ", "\t ", " \\\n ", " \\\n# c\n"]),
    ) {
        let [a, b, c] = &names[..] else { unreachable!() };
        let text = format!(
            "ARG A={a}\nFROM{blanks}${{A}}{blanks}AS{blanks}stage\n\
             FROM{blanks}{quote}{b}{quote}\nCOPY{blanks}--from={quote}{c}{quote}{blanks}/x /y\n\
             COPY --from=stage /x /y\n"
        );
        prop_assert_eq!(pinned(&text, &request()).matches("@D").count(), 3);
    }
}
