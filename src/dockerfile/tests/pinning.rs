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
    let pinned = file.pin(images.iter().map(|found| (found, DIGEST)), frontend).unwrap();

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
fn one_place_with_two_digests_is_a_conflict() {
    let file = parse(b"FROM scratch AS s\nARG TARGETARCH\nFROM a-$TARGETARCH\n").unwrap();
    let amd = file.images(&request()).unwrap();
    let arm = Request::new("linux/arm64".parse().unwrap());
    let arm = file.images(&arm).unwrap();
    let uses = [(&amd[0], "sha256:1"), (&arm[0], "sha256:2")];
    let conflict = file.pin(uses, None).unwrap_err();
    assert_eq!((conflict.line, conflict.name.as_str()), (3, "a-arm64"));
    let same = file.pin([(&amd[0], "sha256:1"), (&arm[0], "sha256:1")], None);
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
