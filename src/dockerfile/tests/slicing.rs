//! What the reached stages read and depend on.

use super::*;

fn copied(slice: &Slice) -> Vec<String> {
    let kinds = slice.reads.iter().map(|read| match &read.kind {
        ReadKind::Copy { sources, .. } => sources.join(" "),
        ReadKind::Bind { source } => format!("bind {source}"),
        ReadKind::All => "all".to_owned(),
    });
    kinds.collect()
}

fn arguments(slice: &Slice) -> Vec<(&str, Option<&str>)> {
    slice.arguments.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect()
}

#[test]
fn sources_are_expanded_and_cleaned() {
    let text = "FROM x\nARG D=src\nENV E=$D/lib\n\
                COPY --exclude=*.md --exclude=$D ./a ../b/ $E /c\\* /x/\n\
                ADD f*.t?r /\nCOPY . .\nCOPY --parents a/./**/b /y\nCOPY [\"g h\", \"/\"]\n\
                COPY --from=x i /\nCOPY <<E /e\nE\n";
    let slice = slice(text);
    assert_eq!(copied(&slice), ["a b src/lib c*", "f*.t?r", ".", "a/./**/b", "g h"]);
    let ReadKind::Copy { parents, exclude, .. } = &slice.reads[0].kind else { panic!() };
    assert_eq!((parents, exclude.as_slice()), (&false, &["*.md".to_owned()][..]));
    assert!(matches!(slice.reads[3].kind, ReadKind::Copy { parents: true, .. }));
}

#[test]
fn mounts_read_the_context_unless_they_have_another_source() {
    let text = "FROM x\nARG D=d\nRUN --mount=target=/a --mount=type=bind,source=$D/../e,target=/b \\\n\
                --mount=type=cache,target=/c --mount=type=tmpfs,target=/d \\\n\
                --mount=type=secret,id=npm,required --mount=type=ssh --mount=from=y,target=/e \\\n\
                --mount=type=secret,target=/run/tok,env=TOK true";
    let slice = slice(text);
    assert_eq!(copied(&slice), ["bind .", "bind e"]);
    let secrets: Vec<_> =
        slice.secrets.iter().map(|secret| (&*secret.id, secret.required)).collect();
    assert_eq!(secrets, [("npm", true), ("tok", false)]);
    assert_eq!(slice.ssh[0].id, "default");
    assert_eq!(slice.caches, ["/c".to_owned()].into());
    assert_eq!(slice.features, [Feature::RunMount, Feature::SecretEnv].into());
}

#[test]
fn only_arguments_that_are_declared_or_used_count() {
    let text = "ARG BASE=x\nARG IDLE=1\nARG G=global\nFROM a AS idle\nARG UNREACHED=1\n\
                FROM $BASE\nARG D=1 E\nARG G\nARG TARGETARCH\nARG N";
    let given = request_with([
        ("D", "2"),
        ("UNREACHED", "2"),
        ("HTTP_PROXY", "http://proxy"),
        ("UNDECLARED", "1"),
        ("BUILDKIT_INLINE_CACHE", "1"),
    ]);
    assert_eq!(
        arguments(&slice_with(text, &given)),
        [
            ("BASE", Some("x")),
            ("BUILDKIT_INLINE_CACHE", Some("1")),
            ("D", Some("2")),
            ("E", None),
            ("G", Some("global")),
            ("N", None),
            ("TARGETARCH", Some("amd64")),
        ]
    );
}

#[test]
fn arguments_and_environment_hide_each_other_in_the_order_of_the_file() {
    let text = "FROM x AS a\nENV A=env\nARG A=arg B=$A\nLABEL l=$A$B\nENV B=b C=$B\n\
                FROM a\nLABEL m=$A$B$C\n";
    assert_eq!(
        texts(&slice(text)),
        [
            "FROM x",
            "ENV A=env",
            "ARG A=arg",
            "ARG B=arg",
            "LABEL l=argarg",
            "ENV B=b C=arg",
            "FROM stage=0",
            // The child sees what the image keeps of A, not the argument.
            "LABEL m=envbarg",
        ]
    );
}

#[test]
fn the_environment_of_the_base_is_known_from_its_configuration() {
    let text = "FROM x\nCOPY $DIR/a $PATH\n";
    let env = vec![("DIR".to_owned(), "d".to_owned())];
    let bases = [(key("x"), BaseImage { env, ..BaseImage::default() })].into();
    let slice = slice_of(text, &request(), &bases);
    assert_eq!(copied(&slice), ["d/a"]);
    assert!(texts(&slice)[1].ends_with(":/sbin:/bin"), "{:?}", texts(&slice));
    assert_eq!(slice.wider, []);
}

#[test]
fn a_base_that_is_not_known_widens() {
    let text = "FROM x\nENV A=$B\nCOPY $A/a /\nCOPY b $C\nARG D=$E\nADD $F /\nENV $G=1\nUSER $A\n";
    let slice = slice_of(text, &request(), &BTreeMap::new());
    assert_eq!(copied(&slice), ["all", "all", "b", "all"]);
    let wider: Vec<_> = slice.wider.iter().map(|wider| (wider.line, wider.effect)).collect();
    assert_eq!(
        wider,
        [
            (1, Effect::WholeContext),
            (3, Effect::WholeContext),
            (6, Effect::WholeContext),
            (6, Effect::NotSkippable)
        ]
    );
    assert!(slice.wider[0].reason.contains("ONBUILD"));
    assert!(slice.wider[1].reason.contains("`A`"), "{}", slice.wider[1].reason);
    assert_eq!(slice.arguments["D"], None);
    assert_eq!(texts(&slice)[2], r#"COPY --unexpanded="\\" $A/a /"#);
    // What the file itself sets is known all the same.
    let slice = slice_of("FROM x\nENV A=a\nCOPY $A /\n", &request(), &BTreeMap::new());
    assert_eq!(copied(&slice), ["all", "a"]);
}

#[test]
fn triggers_of_the_base_come_first() {
    let onbuild = ["COPY package.json .", "RUN npm i", "COPY --from=tools /t /t"];
    let base = BaseImage { env: vec![], onbuild: onbuild.map(str::to_owned).to_vec() };
    let text = "FROM x AS a\nCOPY b .\nFROM a\nCOPY c .\n";
    let slice = slice_of(text, &request(), &[(key("x"), base)].into());
    assert_eq!(copied(&slice), ["package.json", "b", "c"]);
    assert_eq!(texts(&slice)[1..3], ["COPY package.json .", "RUN npm i"]);
    let tools = &slice.images[1];
    assert_eq!((tools.key.name.as_str(), tools.end, tools.line), ("tools", None, 1));

    let file = parse(text.as_bytes()).unwrap();
    for bad in ["FROM y", "COPY a", "RUN a\nRUN b", "ONBUILD RUN x", "NOPE", "COPY ${x?} /"] {
        let base = BaseImage { env: vec![], onbuild: vec![bad.to_owned()] };
        let error = file.slice(&request(), &[(key("x"), base)].into()).unwrap_err();
        assert_eq!((error.line(), error.column()), (1, 6), "{error}");
        assert!(error.message().contains("trigger"), "{error}");
    }
}

#[test]
fn triggers_of_a_stage_run_in_the_stages_on_it() {
    let text = "FROM x AS a\nONBUILD ADD --chmod=1 <<E d \\\n /e\nhello\nE\n\
                ONBUILD COPY --from=b /b /b\nFROM y AS b\nFROM a AS c\nFROM c";
    let slice = slice(text);
    assert_eq!(
        texts(&slice),
        [
            "FROM x",
            r#"ONBUILD "ADD --chmod=1 <<E d  /e\nhello\nE""#,
            "ONBUILD \"COPY --from=b /b /b\"",
            "FROM y",
            "FROM stage=0",
            r#"ADD --chmod=1 d <<E="hello\n" /e"#,
            "COPY --from=stage=1 /b /b",
            "FROM stage=2",
        ]
    );
    assert_eq!(copied(&slice), ["d"]);
}

#[test]
fn remote_sources_are_listed_with_what_pins_them() {
    let text = "FROM x\nARG V=1\nADD https://e.example/a-$V.tgz https://e.example/r.git#v1 local /\n\
                ADD --checksum=sha256:$V https://e.example/b /\n";
    let slice = slice(text);
    assert_eq!(copied(&slice), ["local"]);
    let http = |checksum: Option<&str>| RemoteKind::Http { checksum: checksum.map(str::to_owned) };
    assert_eq!(slice.remotes[0].source, "https://e.example/a-1.tgz");
    assert_eq!(slice.remotes[0].kind, http(None));
    let RemoteKind::Git(git) = &slice.remotes[1].kind else { panic!("{:?}", slice.remotes) };
    assert_eq!(git.reference.as_deref(), Some("v1"));
    assert_eq!(slice.remotes[2].kind, http(Some("sha256:1")));
}

#[test]
fn a_frontend_that_is_not_known_makes_the_build_unskippable() {
    let slice = slice("# syntax=example/frontend\nFROM x\n");
    assert_eq!(copied(&slice), ["all"]);
    let effects: Vec<_> = slice.wider.iter().map(|wider| wider.effect).collect();
    assert_eq!(effects, [Effect::WholeContext, Effect::NotSkippable]);
    assert_eq!(self::slice("# syntax=docker/dockerfile:1.9\nFROM x\n").wider, []);
}

#[test]
fn an_epoch_that_is_no_number_makes_the_build_unskippable() {
    for (text, expected) in [
        ("ARG SOURCE_DATE_EPOCH=0\nFROM x", 0),
        ("ARG SOURCE_DATE_EPOCH=\nFROM x", 0),
        ("ARG SOURCE_DATE_EPOCH=context\nFROM x", 1),
    ] {
        assert_eq!(slice(text).wider.len(), expected, "{text}");
    }
    let given = request_with([("SOURCE_DATE_EPOCH", "17")]);
    assert_eq!(arguments(&slice_with("FROM x", &given)), [("SOURCE_DATE_EPOCH", Some("17"))]);
}

#[test]
fn features_say_what_the_engine_must_have() {
    let text = "FROM x\nCOPY --link --chmod=755 a b\nRUN --network=none true\nENV A=${B#x}\n";
    let features = [Feature::Link, Feature::Chmod, Feature::RunNetwork, Feature::Patterns];
    assert_eq!(slice(text).features, features.into());
    assert_eq!(slice("FROM x\nCOPY --link=false a b").features, [].into());
    assert_eq!(slice("FROM y\nCOPY --link a b\nFROM x").features, [].into());
}
