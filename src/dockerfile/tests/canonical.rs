//! One text for all the ways to write the same, and never one for two that differ.

use proptest::prelude::*;

use super::*;

#[test]
fn formatting_does_not_matter() {
    let plain = "ARG V=1\nFROM x AS a\nENV A=1 B=\"2 3\"\nRUN make $V\nCOPY --chown=1 --link a b /c/\n\
                 EXPOSE 80 443\nLABEL k=v\nWORKDIR /w\nFROM a\nARG V\nCMD [\"a\",\"b\"]\n";
    let other = "# syntax=docker/dockerfile:1\n# escape=`\n\n# hello\narg V='1'\nfrom   x `\n  as stage1\n\
                 Env A=\"1\" `\n # comment\n\n B=2` 3\n\trun make $V\r\n\
                 copy  --link=true --chown=\"1\" [\"a\", \"b\", \"/c/\"]\n\
                 expose 443`\n 80\nlabel k v\nworkdir \"/w\"\nfrom stage1\narg V=${V:-1}\n\
                 cmd [ \"a\", `\n \"b\" ]";
    let other = other.replace("${V:-1}", "1");
    assert_eq!(texts(&slice(plain)), texts(&slice(&other)));
}

#[test]
fn stages_that_are_not_reached_do_not_matter() {
    let plain = "FROM x AS a\nRUN a\nFROM y\nCOPY --from=a / /\n";
    let other = "FROM z AS before\nRUN z\nFROM x AS a\nRUN a\nFROM before\nFROM y\nCOPY --from=a / /\n\
                 FROM y AS after\nRUN b";
    let target = Request { target: None, ..request() };
    let other = other.replace("FROM y AS after\nRUN b", "");
    assert_eq!(texts(&slice(plain)), texts(&slice_with(&other, &target)));
}

#[test]
fn what_could_change_the_image_changes_the_text() {
    let variants = [
        "RUN a b",
        "RUN a  b",
        "RUN [\"a\", \"b\"]",
        "RUN [\"a b\"]",
        "RUN <<E\na b\nE",
        "RUN <<F\na b\nF",
        "RUN <<-E\na b\nE",
        "RUN --network=none a b",
        "RUN --mount=target=/a a b",
        "RUN --mount=target=/a,rw a b",
        "RUN --mount=target=/a,source=b a b",
        "RUN --mount=from=a,target=/a a b",
        "RUN -- --mount=target=/a a b",
        "CMD a b",
        "ENTRYPOINT a b",
        "HEALTHCHECK CMD a b",
        "HEALTHCHECK --retries=1 CMD a b",
        "SHELL [\"a\", \"b\"]",
        "COPY a b",
        "COPY a b c",
        "COPY [\"a b\", \"c\"]",
        "COPY a b/",
        "COPY --from=a a b",
        "COPY --from=0 a b",
        "COPY --link a b",
        "COPY --chown=a a b",
        "COPY --chmod=a a b",
        "COPY --exclude=a a b",
        "COPY --parents a b",
        "COPY <<a b\na\n",
        "COPY <<a b\nb\na\n",
        "ADD a b",
        "ADD --unpack a b",
        "ADD --unpack=false a b",
        "ADD --keep-git-dir a b",
        "ENV a=b",
        "ENV a=b c=d",
        "ENV a=\"b c=d\"",
        "ENV a=",
        "LABEL a=b",
        "ARG a",
        "ARG a=",
        "ARG a=b",
        "ARG a=b c",
        "USER a",
        "WORKDIR a",
        "VOLUME a",
        "VOLUME a b",
        "VOLUME [\"a b\"]",
        "EXPOSE 1",
        "STOPSIGNAL 1",
        "MAINTAINER a",
        "ONBUILD RUN a b",
        "ONBUILD RUN a  b",
    ];
    let mut seen = BTreeMap::new();
    for variant in variants {
        let texts =
            texts(&slice(&format!("FROM s AS base\nFROM x\nCOPY --from=base /z /z\n{variant}")));
        let twin = seen.insert(texts.clone(), variant);
        assert_eq!(twin, None, "{variant}: {texts:?}");
    }
}

#[test]
fn an_overridden_default_does_not_matter_but_the_value_does() {
    let text = |value| format!("FROM x\nARG V={value}\nRUN $V");
    let given = request_with([("V", "3")]);
    assert_eq!(texts(&slice(&text("3"))), texts(&slice_with(&text("1"), &given)));
    assert_ne!(texts(&slice(&text("1"))), texts(&slice(&text("2"))));
}

/// A statement and another way to write it.
fn pair() -> impl Strategy<Value = (String, String)> {
    let word = "[a-z0-9./]{1,5}";
    let noise = prop::sample::select(vec![
        " ",
        "  ",
        "\t",
        " \\\n",
        " \\\n\n  ",
        " \\\n# c \\\n ",
        " \\\r\n",
    ]);
    let name = prop::sample::select(vec!["COPY", "ADD", "COPY --link", "VOLUME", "EXPOSE"]);
    (name, prop::collection::vec(word, 2..5), prop::collection::vec(noise, 6), any::<bool>())
        .prop_map(|(name, words, noise, lower)| {
            let plain = format!("{name} {}", words.join(" "));
            let name = if lower { name.to_lowercase() } else { name.to_owned() };
            let mut other =
                format!("# c\n\n{}{name}", noise[0].trim_matches(['\\', '\n', '\r', '#', 'c']));
            for (word, noise) in words.iter().zip(&noise[1..]) {
                other.push_str(noise);
                other.push_str(word);
            }
            (plain, other)
        })
}

proptest! {
    #[test]
    fn comments_and_layout_do_not_change_the_text(pairs in prop::collection::vec(pair(), 1..6)) {
        let (plain, other): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let plain = slice(&format!("FROM x\n{}", plain.join("\n")));
        let other = slice(&format!("from x\n{}\n", other.join("\n#\n")));
        prop_assert_eq!(texts(&plain), texts(&other));
        let reads = |slice: &Slice| -> Vec<_> {
            slice.reads.iter().map(|read| read.kind.clone()).collect()
        };
        prop_assert_eq!(reads(&plain), reads(&other));
    }

    #[test]
    fn words_that_differ_have_texts_that_differ(
        a in prop::collection::vec("[ab \"\\\\=,\n-]{0,4}", 1..4),
        b in prop::collection::vec("[ab \"\\\\=,\n-]{0,4}", 1..4),
    ) {
        let text = |words: &[String]| {
            let list = serde_json::Value::from([words, &["/d".to_owned()]].concat());
            let volumes: Vec<String> = words.iter().map(|word| word.trim().to_owned()).collect();
            (texts(&slice(&format!("FROM x\nSHELL {list}"))), volumes)
        };
        prop_assert_eq!(a == b, text(&a).0 == text(&b).0);
    }
}
