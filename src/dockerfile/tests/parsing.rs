//! From text to instructions.

use proptest::prelude::*;

use super::*;

fn steps(text: &str) -> Vec<String> {
    texts(&slice(&format!("FROM x\n{text}"))).split_off(1)
}

#[test]
fn lines_are_continued_and_comments_between_them_go() {
    assert_eq!(
        steps("RUN a && \\\n  # a comment\n\n   b \\ \t\n\t# another \\\n && c\nrun d"),
        ["RUN a &&    b  && c", "RUN d"]
    );
    assert_eq!(steps("RUN a \\\\\nRUN b"), [r"RUN a \\", "RUN b"]);
    assert_eq!(steps("\\\nRUN a\\\n"), ["RUN a"]);
    assert_eq!(steps("RUN a\\\r\n b\r\nRUN c\r\n"), ["RUN a b", "RUN c"]);
    assert_eq!(steps("  # comment\n \t RUN a # no comment"), ["RUN a # no comment"]);
}

#[test]
fn the_escape_directive_changes_the_character() {
    let file = "# escape=`\nFROM x\nRUN a `\n b\nCOPY a`$b c:\\d\\\nENV e=\"f`\"g\"";
    assert_eq!(
        texts(&slice(file)),
        ["FROM x", "RUN a  b", "COPY a$b \"c:\\\\d\\\\\"", r#"ENV e="f\"g""#]
    );
    assert_eq!(texts(&slice("# no directive\n# escape=`\nFROM x\nRUN `\n")), ["FROM x", "RUN `"]);
}

#[test]
fn heredocs_are_verbatim() {
    assert_eq!(
        steps("RUN <<EOF\n# not a comment \\\n$HOME \\\n\tEOF\nEOF\nRUN next"),
        [r##"RUN <<EOF="# not a comment \\\n$HOME \\\n\tEOF\n" -- <<EOF"##, "RUN next"]
    );
    assert_eq!(
        steps("RUN --network=none cat <<-A <<'B' > x\n\t1\n\tA\n2\r\nB\n"),
        [r#"RUN --network=none <<-A="\t1\n" <<'B="2\r\n" -- cat <<-A <<'B' > x"#]
    );
    assert_eq!(steps("RUN echo 1<<2\n2\n"), [r#"RUN <<2="" -- echo 1<<2"#]);
    for no_heredoc in ["RUN [\"a\", \"<<b\"]", "CMD cat <<EOF", "RUN a <<<b"] {
        assert_eq!(steps(no_heredoc).len(), 1, "{no_heredoc}");
    }
}

#[test]
fn copied_heredocs_are_expanded_unless_quoted() {
    assert_eq!(
        steps("ENV A=1\nCOPY <<a <<-'b' <<\"c\" /d/\n$A'$A'\\$A\na\n\t$A\n\tb\n$A\nc\n"),
        ["ENV A=1", r#"COPY <<a="1'1'$A\n" <<'b="$A\n" <<'c="$A\n" /d/"#]
    );
}

#[test]
fn exec_and_shell_form_are_told_apart() {
    for (text, canonical) in [
        ("RUN [\"a\", \"b c\"]", r#"RUN ["a","b c"]"#),
        ("RUN [ -f x ]", "RUN [ -f x ]"),
        ("CMD ['a']", "CMD ['a']"),
        ("CMD", "CMD "),
        ("ENTRYPOINT []", "ENTRYPOINT []"),
        ("SHELL [\"/bin/bash\", \"-c\"]", r#"SHELL ["/bin/bash","-c"]"#),
        ("COPY [\"a b\", \"c\"]", ""),
        ("VOLUME [\"/a\", \"/b c\"]", r#"VOLUME /a "/b c""#),
        ("HEALTHCHECK none", "HEALTHCHECK NONE"),
        (
            "HEALTHCHECK --retries=3 --interval=5s cmd curl x",
            "HEALTHCHECK --interval=5s --retries=3 CMD -- curl x",
        ),
    ] {
        let expected = if canonical.is_empty() { r#"COPY "a b" c"# } else { canonical };
        assert_eq!(steps(text), [expected], "{text}");
    }
}

#[test]
fn errors_say_where() {
    for (text, line, column, message) in [
        ("", 0, 0, "no instruction"),
        ("# only a comment", 0, 0, "no instruction"),
        ("ARG A", 0, 0, "no FROM"),
        ("RUN a\nFROM x", 1, 1, "before the first FROM"),
        ("FROM x\n  FORM y", 2, 3, "`FORM` is not an instruction"),
        ("FROM x\nCOPY --form=a \\\n b c", 2, 6, "`--form` is not a flag of COPY"),
        ("FROM x\nCOPY --link \\\n  --link b c", 3, 3, "twice"),
        ("FROM x\nCOPY a", 2, 1, "a source and a destination"),
        ("FROM x\nCOPY a \\\n  <<b\nb\n", 3, 3, "cannot be a here-document"),
        ("FROM x\nRUN <<EOF\nx\n", 2, 1, "`EOF`"),
        ("FROM x\nENV a=b \\\n  c", 3, 3, "`c` must be of the form name=value"),
        ("FROM x AS 1a", 1, 11, "cannot be the name of a stage"),
        ("FROM x y", 1, 1, "FROM takes"),
        ("FROM ${no:?none}", 1, 6, "no: none"),
        ("FROM $no", 1, 6, "expands to nothing"),
        ("FROM x\nLABEL a=1 b=${c", 2, 13, "missing `}`"),
        ("FROM x\nSHELL sh -c", 2, 1, "JSON"),
        ("FROM x\nVOLUME /a $no", 2, 11, "expands to nothing"),
        ("FROM x\nRUN [1]", 2, 5, "only strings"),
        ("FROM x\nONBUILD FROM y", 2, 9, "cannot be the trigger"),
        ("FROM x\nCOPY --from=$y a b", 2, 1, "no variables"),
        ("FROM x\nCOPY --from=3 a b", 2, 1, "no stage 3"),
        ("FROM x AS a\nCOPY --from=A a b", 2, 1, "is this one"),
        ("FROM x\nCOPY http://e.example/x b", 2, 6, "use ADD"),
        ("FROM x\nADD --checksum=sha256:0 a b", 2, 5, "one URL"),
        ("# escape=x\nFROM x", 1, 1, "escape character"),
        ("# escape=`\n# escape=`\nFROM x", 2, 1, "twice"),
    ] {
        let error = error_of(text);
        assert!(error.message().contains(message), "{text}: {error}");
        assert_eq!((error.line(), error.column()), (line, column), "{text}: {error}");
    }
}

#[test]
fn what_a_newer_frontend_may_understand_is_told_from_what_is_wrong() {
    for text in [
        "FROM x\nINCLUDE y",
        "FROM x\nCOPY --sparse a b",
        "FROM x\nRUN --mount=type=nfs,target=/x y",
        "FROM x\nRUN --network=vpn y",
        "FROM x\nENV a=${b^^}",
        "FROM x\nARG $a=1",
        "FROM x\nARG 'a=1'",
        "FROM --platform=??? x",
    ] {
        assert_eq!(error_of(text).kind(), ErrorKind::NotUnderstood, "{text}");
    }
    assert_eq!(error_of("FROM x\nCOPY a").kind(), ErrorKind::Invalid);
}

#[test]
fn text_that_is_not_utf_8_is_refused_except_in_comments() {
    assert!(parse(b"# Se\xf1or\nFROM x\nRUN a \\\n # \xf1\n b").is_ok());
    for text in [&b"FROM x\nRUN echo \xf1"[..], b"FROM x\nRUN <<E\n\xf1\nE\n"] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotUnderstood, "{error}");
    }
    assert_eq!(parse(b"FROM x\nRUN echo \xf1").unwrap_err().column(), 10);
}

#[test]
fn a_line_has_a_greatest_length_but_a_file_has_none() {
    let line = format!("FROM x\nRUN {}\n", "a".repeat(65532));
    assert_eq!(error_of(&line).line(), 2);
    let many = format!("FROM x AS a0\n{}", "FROM a0 AS a0\nRUN a\n".repeat(5000));
    assert_eq!(slice(&many).stages.len(), 5001);
}

proptest! {
    #[test]
    fn no_bytes_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(file) = parse(&text) {
            let _ = file.slice(&request(), &BTreeMap::new());
        }
    }

    #[test]
    fn no_dockerfile_panics(lines in prop::collection::vec(line(), 0..12)) {
        let text = lines.join("\n");
        let Ok(file) = parse(text.as_bytes()) else { return Ok(()) };
        prop_assert_eq!(&file.pin([], None).unwrap(), text.as_bytes());
        for contexts in [BTreeSet::new(), BTreeSet::from(["x".to_owned()])] {
            let request = Request { contexts, ..request() };
            let _ = file.slice(&request, &BTreeMap::new());
        }
    }
}

/// Lines that are nearly right.
fn line() -> impl Strategy<Value = String> {
    let word = "[a-z$\\\\{}:'\"#%/=<.*-]{0,6}";
    let name = prop::sample::select(vec![
        "FROM",
        "FROM x AS",
        "RUN",
        "COPY",
        "COPY --from=0",
        "ADD",
        "ENV",
        "ARG",
        "LABEL",
        "CMD",
        "ONBUILD COPY",
        "RUN --mount=type=bind,source=",
        "HEALTHCHECK CMD",
        "EXPOSE",
        "<<EOF",
        "#",
        "# escape=`",
        "EOF",
    ]);
    (name, prop::collection::vec(word, 0..4))
        .prop_map(|(name, words)| format!("{name} {}", words.join(" ")))
}
