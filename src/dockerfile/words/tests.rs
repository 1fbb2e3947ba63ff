use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn variables() -> BTreeMap<String, String> {
    [
        ("dir", "/srv"),
        ("empty", ""),
        ("file", "img.tar.gz"),
        ("path", "a/b/c"),
        ("words", " one  two "),
        ("stars", "a*b"),
        ("lines", "one\ntwo"),
        ("größe", "1"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

fn expand(word: &str) -> Result<String, WordError> {
    Lexer::new('\\').word(word, &variables()).map(|expansion| expansion.text)
}

#[test]
fn a_word_loses_its_quotes_and_escapes() {
    for (word, text) in [
        ("plain", "plain"),
        (r#"a"b c"'d e'f"#, "ab cd ef"),
        (r#"'$dir\n'"#, r"$dir\n"),
        (r#""it's""#, "it's"),
        (r#""a\"b\\c\d""#, r#"a"b\c\d"#),
        (r"a\$dir\'\n", "a$dir'n"),
        (r"end\", "end"),
        ("", ""),
        ("\u{feff}x", "x"),
    ] {
        assert_eq!(expand(word).as_deref(), Ok(text), "{word}");
    }
}

#[test]
fn variables_are_replaced_but_not_their_values() {
    for (word, text) in [
        ("$dir/x", "/srv/x"),
        ("${dir}x$dirx", "/srvx"),
        (r#""$dir"'$dir'"#, "/srv$dir"),
        ("a$words.", "a one  two ."),
        ("$größe${größe}", "11"),
        ("$1$2a$@$$$?${10}${#}", "a"),
        ("$.$", "$.$"),
        ("$dir-$nothing", "/srv-"),
    ] {
        assert_eq!(expand(word).as_deref(), Ok(text), "{word}");
    }
}

#[test]
fn modifiers_choose_by_what_is_set() {
    for (word, text) in [
        ("${dir-x}${empty-x}${no-x}", "/srvx"),
        ("${dir:-x}${empty:-x}${no:-x}", "/srvxx"),
        ("${dir+x}${empty+x}${no+x}", "xx"),
        ("${dir:+x}${empty:+x}${no:+x}", "x"),
        ("${dir?x}${empty?x}${dir:?x}", "/srv/srv"),
        ("${no:-${nope:-$dir}}", "/srv"),
        (r"${no:-a\}b}", "a}b"),
        (r#"${no:-"a b}"}"#, "a b}"),
    ] {
        assert_eq!(expand(word).as_deref(), Ok(text), "{word}");
    }
}

#[test]
fn patterns_trim_the_shortest_or_the_longest_match() {
    for (word, text) in [
        ("${file%.*}", "img.tar"),
        ("${file%%.*}", "img"),
        ("${file#*.}", "tar.gz"),
        ("${file##*.}", "gz"),
        ("${file#tar}", "img.tar.gz"),
        ("${file#???}${file%.??}", ".tar.gzimg.tar"),
        ("${file#*}|${file##*}|${file%*}|${file%%*}", "img.tar.gz||img.tar.gz|"),
        (r"${stars#a\*}${stars%\**}", "ba"),
        ("${lines#*w}${lines%%t*}", "one\ntwoone\n"),
        ("${no#x}${no%x}", ""),
        ("${empty#*}", ""),
    ] {
        assert_eq!(expand(word).as_deref(), Ok(text), "{word}");
    }
}

#[test]
fn patterns_replace_the_first_match_or_every_one() {
    for (word, text) in [
        ("${path/b/x}", "a/x/c"),
        (r"${path/\//-}", "a-b/c"),
        (r"${path//\//-}", "a-b-c"),
        (r"${path//\/}", "missing `/` in a substitution"),
        ("${file//./}", "imgtargz"),
        ("${file/t*./}", "img.gz"),
        ("${file//*/x}", "x"),
        ("${empty//*/x}", "x"),
        ("${stars/$dir/x}${no/a/b}", "a*b"),
        ("${path/b/$dir}", "a//srv/c"),
    ] {
        let result = expand(word).unwrap_or_else(|error| error.message);
        assert_eq!(result, text, "{word}");
    }
}

#[test]
fn what_the_engine_refuses_is_invalid_and_what_a_newer_one_may_take_is_not_understood() {
    for word in ["${", "${}", "${dir", "${{dir}", "${:-x}", "'a", "\"a", "${no?}", "${empty:?}"] {
        assert_eq!(expand(word).unwrap_err().kind, ErrorKind::Invalid, "{word}");
    }
    for word in ["${dir=x}", "${dir:=x}", "${dir:0:2}", "${dir^^}", "${dir:#x}", "${path//a/$dir$}"]
    {
        assert_eq!(expand(word).unwrap_err().kind, ErrorKind::NotUnderstood, "{word}");
    }
    assert_eq!(expand("${no?give me no}").unwrap_err().message, "no: give me no");
    assert_eq!(expand(r"${dir#\a}").unwrap_err().message, r"`\a` is not an escape in a pattern");
}

#[test]
fn the_escape_character_can_be_a_backtick() {
    let lexer = Lexer::new('`');
    let text = lexer.word(r#"c:\dir\`$x"a`"b\""#, &variables()).unwrap().text;
    assert_eq!(text, r#"c:\dir\$xa"b\"#);
}

#[test]
fn words_are_divided_after_expansion_but_not_in_quotes() {
    let words = |text: &str| Lexer::new('\\').words(text, &variables()).unwrap();
    assert_eq!(words(" a  b\tc "), ["a", "b", "c"]);
    assert_eq!(words("x$words'y z'"), ["x", "one", "two", "y z"]);
    assert_eq!(words(r#""$words"x a\ b '' "" "#), [" one  two x", "a b"]);
    assert_eq!(words("cat << EOF <<-'E F'"), ["cat", "<< EOF", "<<-E F"]);
}

#[test]
fn what_is_not_known_is_told_apart_from_what_is_not_set() {
    struct Unknown;
    impl Scope for Unknown {
        fn get(&self, name: &str) -> Value<'_> {
            if name == "known" { Value::Set("1") } else { Value::Unknown }
        }
    }
    let lexer = Lexer::new('\\');
    let expansion = lexer.word("a${known}b${other:?x}", &Unknown).unwrap();
    assert_eq!(expansion.unknown.as_deref(), Some("other"));
    assert_eq!(expansion.used, BTreeSet::from(["known".to_owned()]));
    assert_eq!(lexer.word("$known'$other'", &Unknown).unwrap().unknown, None);
}

#[test]
fn nesting_length_and_work_are_bounded() {
    let deep = "${a:-".repeat(100_000);
    assert_eq!(expand(&deep).unwrap_err().kind, ErrorKind::NotUnderstood);
    let mut variables = variables();
    variables.insert("long".to_owned(), "x".repeat(1 << 19));
    let lexer = Lexer::new('\\');
    for word in ["$long$long$long", "${long//x/xxxx}", &format!("${{long#{}}}", "?".repeat(1000))] {
        assert_eq!(lexer.word(word, &variables).unwrap_err().kind, ErrorKind::NotUnderstood);
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,40}", raw in any::<[bool; 4]>()) {
        let lexer = Lexer {
            escape: '\\',
            raw_quotes: raw[0],
            raw_escapes: raw[1],
            skip_quotes: raw[2],
            skip_unset: raw[3],
        };
        let _ = lexer.word(&text, &variables());
        let _ = lexer.words(&text, &variables());
    }

    #[test]
    fn no_substitution_panics(text in r"(\$\{?(dir|empty|no|file)[-+?:#%/}*.\\']{0,6}){1,4}") {
        let _ = expand(&text);
    }

    /// Against the definition: of all prefixes that match, the shortest or the longest.
    #[test]
    fn trimming_finds_the_shortest_and_the_longest(
        pattern in "[ab*?]{0,5}",
        value in "[ab\n]{0,8}",
    ) {
        fn matches(pattern: &[u8], value: &[u8]) -> bool {
            match (pattern.split_first(), value.split_first()) {
                (None, _) => value.is_empty(),
                (Some((b'*', rest)), head) => {
                    matches(rest, value)
                        || head.is_some_and(|(&c, tail)| c != b'\n' && matches(pattern, tail))
                }
                (Some((&p, rest)), Some((&c, tail))) => {
                    (p == c || p == b'?' && c != b'\n') && matches(rest, tail)
                }
                _ => false,
            }
        }
        let ends: Vec<usize> = (0..=value.len())
            .filter(|&end| matches(pattern.as_bytes(), &value.as_bytes()[..end]))
            .collect();
        let compiled = Pattern::new(&pattern).unwrap();
        let shortest = ends.first().copied().unwrap_or(0);
        let longest = ends.last().copied().unwrap_or(0);
        prop_assert_eq!(compiled.trim_start(&value, false).unwrap(), &value[shortest..]);
        prop_assert_eq!(compiled.trim_start(&value, true).unwrap(), &value[longest..]);
    }
}
