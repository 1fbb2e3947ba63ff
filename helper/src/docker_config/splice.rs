//! Changing one entry of a JSON text, and not a byte besides.
//!
//! The JSON parser finds where things are; the change is then made in the text, in the style of its
//! neighbours. Pure. Texts are valid JSON objects, or blank.

use std::fmt;
use std::ops::Range;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The text of a new file.
const EMPTY: &str = "{}\n";

/// How Docker indents.
const INDENT: &str = "\t";

/// A member of an object: its name, and where in the text it is.
struct Member {
    name: String,
    /// From the quote of the name to the end of the value.
    span: Range<usize>,
    value: Range<usize>,
}

/// An object: where it is, and its members in order.
struct Object {
    span: Range<usize>,
    members: Vec<Member>,
}

/// Sets `text[section][key]` to a string. A section that is not there is made at the end.
pub(super) fn set(text: &str, section: &str, key: &str, value: &str) -> String {
    let text = if text.trim_ascii().is_empty() { EMPTY } else { text };
    let root = Object::read(text, 0..text.len());
    let value = quote(value);
    match root.find(section).map(|member| Object::read(text, member.value.clone())) {
        Some(section) => match section.find(key) {
            Some(member) => replace(text, member.value.clone(), &value),
            None => section.insert(text, root.unit(text), 1, key, &value),
        },
        None => {
            let unit = root.unit(text);
            let body = match unit {
                Some(unit) => {
                    format!("{{\n{unit}{unit}{}: {value}\n{unit}}}", quote(key))
                }
                None => format!("{{{}:{value}}}", quote(key)),
            };
            root.insert(text, unit, 0, section, &body)
        }
    }
}

/// Removes `text[section][key]`, and the section if that leaves it empty.
pub(super) fn remove(text: &str, section: &str, key: &str) -> String {
    let root = Object::read(text, 0..text.len());
    // Sections of one name count together, and of entries of one name an earlier one would take the
    // place of the last.
    let found = root.members.iter().enumerate().filter(|(_, member)| member.name == section);
    for (number, member) in found {
        let inner = Object::read(text, member.value.clone());
        if let Some(position) = inner.position(key) {
            let text = match inner.members.len() {
                1 => root.remove(text, number),
                _ => inner.remove(text, position),
            };
            return remove(&text, section, key);
        }
    }
    text.to_owned()
}

impl Object {
    /// Reads an object at a place in the text.
    fn read(text: &str, place: Range<usize>) -> Self {
        let slice = &text[place.clone()];
        let start = place.start + slice.len() - slice.trim_ascii_start().len();
        let end = place.end - (slice.len() - slice.trim_ascii_end().len());
        // What follows the object is not a part of it.
        let mut values = serde_json::Deserializer::from_str(&text[start..end]).into_iter();
        let Some(Ok(Members(found))) = values.next() else {
            return Self { span: start..end, members: Vec::new() };
        };
        let end = start + values.byte_offset();
        let mut members = Vec::new();
        let mut from = start + 1;
        for (name, raw) in found {
            // The raw value is a part of the text: its address tells where.
            let value_start = raw.get().as_ptr().addr() - text.as_ptr().addr();
            let value = value_start..value_start + raw.get().len();
            let name_start = from + text[from..value.start].find('"').unwrap_or_default();
            from = value.end;
            members.push(Member { name, span: name_start..value.end, value });
        }
        Self { span: start..end, members }
    }

    /// The last one of a name: the one that counts. Go's decoder ignores case in names it knows,
    /// but prefers the exact one; hosts are written in lower case anyway.
    fn position(&self, name: &str) -> Option<usize> {
        self.members.iter().rposition(|member| member.name == name)
    }

    fn find(&self, name: &str) -> Option<&Member> {
        self.position(name).and_then(|position| self.members.get(position))
    }

    /// What one level of indentation is, judged by the first member; nothing in a compact text.
    fn unit<'a>(&self, text: &'a str) -> Option<&'a str> {
        match self.members.first() {
            None => Some(INDENT),
            Some(first) => {
                let gap = &text[self.span.start + 1..first.span.start];
                gap.rfind('\n').map(|line| &gap[line + 1..])
            }
        }
    }

    /// Adds a member at the end, set apart as the last one is.
    fn insert(
        &self,
        text: &str,
        unit: Option<&str>,
        depth: usize,
        name: &str,
        value: &str,
    ) -> String {
        let name = quote(name);
        let Some(last) = self.members.last() else {
            let body = match unit {
                Some(unit) => {
                    let indent = unit.repeat(depth);
                    format!("{{\n{indent}{unit}{name}: {value}\n{indent}}}")
                }
                None => format!("{{{name}:{value}}}"),
            };
            return replace(text, self.span.clone(), &body);
        };
        let before = self.members.iter().rev().nth(1).map_or(self.span.start, |m| m.span.end);
        let gap = text[before + 1..last.span.start].trim_start_matches(',');
        let name_end = last.span.start + quoted_len(&text[last.span.start..]);
        let colon = &text[name_end..last.value.start];
        replace(text, last.span.end..last.span.end, &format!(",{gap}{name}{colon}{value}"))
    }

    /// Removes a member with the comma that goes with it.
    fn remove(&self, text: &str, position: usize) -> String {
        let member = &self.members[position];
        let range = match (position.checked_sub(1), self.members.get(position + 1)) {
            (_, Some(next)) => member.span.start..next.span.start,
            (Some(previous), None) => self.members[previous].span.end..member.span.end,
            (None, None) => return replace(text, self.span.clone(), "{}"),
        };
        replace(text, range, "")
    }
}

fn replace(text: &str, range: Range<usize>, with: &str) -> String {
    [&text[..range.start], with, &text[range.end..]].concat()
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The length of the JSON string that a text starts with.
fn quoted_len(text: &str) -> usize {
    let mut bytes = text.bytes().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The members of an object, their values unread.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set_host(text: &str) -> String {
        set(text, "credHelpers", "r.example", "aliyun")
    }

    #[test]
    fn a_blank_or_empty_text_becomes_dockers_style() {
        let expected = "{\n\t\"credHelpers\": {\n\t\t\"r.example\": \"aliyun\"\n\t}\n}";
        assert_eq!(set_host("{}"), expected);
        assert_eq!(set_host(""), format!("{expected}\n"));
        assert_eq!(set_host(" \n"), format!("{expected}\n"));
    }

    #[test]
    fn the_neighbours_style_is_kept() {
        let cases = [
            (
                "{\n  \"auths\": {},\n  \"x\" : 1.0\n}\n",
                "{\n  \"auths\": {},\n  \"x\" : 1.0,\n  \"credHelpers\" : {\n    \"r.example\": \"aliyun\"\n  }\n}\n",
            ),
            (r#"{"a":1}"#, r#"{"a":1,"credHelpers":{"r.example":"aliyun"}}"#),
            (
                r#"{"a": 1, "credHelpers": {"q": "x"}, "b": 2}"#,
                r#"{"a": 1, "credHelpers": {"q": "x","r.example": "aliyun"}, "b": 2}"#,
            ),
            (
                "{\n\t\"credHelpers\": {},\n\t\"b\": 2\n}",
                "{\n\t\"credHelpers\": {\n\t\t\"r.example\": \"aliyun\"\n\t},\n\t\"b\": 2\n}",
            ),
            (
                "{\r\n  \"credHelpers\": {\r\n    \"q\": \"x\"\r\n  }\r\n}",
                "{\r\n  \"credHelpers\": {\r\n    \"q\": \"x\",\r\n    \"r.example\": \"aliyun\"\r\n  }\r\n}",
            ),
            (
                r#"{"credHelpers":{"r.example":"other","q":"x"}}"#,
                r#"{"credHelpers":{"r.example":"aliyun","q":"x"}}"#,
            ),
        ];
        for (before, after) in cases {
            assert_eq!(set_host(before), after);
        }
    }

    #[test]
    fn removing_takes_what_setting_gave() {
        for text in [
            "{\n  \"auths\": {},\n  \"x\": 1e2\n}\n",
            r#"{"a":1}"#,
            "{\n\t\"credHelpers\": {\n\t\t\"q\": \"x\"\n\t},\n\t\"b\": [1,\n 2]\n}",
        ] {
            assert_eq!(remove(&set_host(text), "credHelpers", "r.example"), text);
            assert_eq!(remove(text, "credHelpers", "r.example"), text);
        }
        let first = r#"{"credHelpers": {"r.example": "aliyun", "q": "x"}}"#;
        assert_eq!(remove(first, "credHelpers", "r.example"), r#"{"credHelpers": {"q": "x"}}"#);
        assert_eq!(remove(&set_host("{}"), "credHelpers", "r.example"), "{}");
    }

    #[test]
    fn what_docker_reads_over_is_read_over() {
        let cases = [
            (r#"{"credHelpers":null}"#, r#"{"credHelpers":{"r.example":"aliyun"}}"#),
            (
                "{} trailing }",
                "{\n\t\"credHelpers\": {\n\t\t\"r.example\": \"aliyun\"\n\t}\n} trailing }",
            ),
            (r#"{"a":1}{"b":2}"#, r#"{"a":1,"credHelpers":{"r.example":"aliyun"}}{"b":2}"#),
        ];
        for (before, after) in cases {
            assert_eq!(set_host(before), after);
        }
        let twice = r#"{"credHelpers":{"r.example":"aliyun"},"a":1,"credHelpers":{"q":"x"}} {"#;
        assert_eq!(
            remove(twice, "credHelpers", "r.example"),
            r#"{"a":1,"credHelpers":{"q":"x"}} {"#
        );
    }

    #[test]
    fn of_two_entries_the_last_counts_and_both_go() {
        let text = r#"{"credHelpers":{"r.example":"a","q":"x","r.example":"b"}}"#;
        let expected = r#"{"credHelpers":{"r.example":"a","q":"x","r.example":"aliyun"}}"#;
        assert_eq!(set_host(text), expected);
        assert_eq!(remove(text, "credHelpers", "r.example"), r#"{"credHelpers":{"q":"x"}}"#);
    }

    fn any_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<i64>().prop_map(serde_json::Value::from),
            ".{0,8}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::vec((".{0,6}", inner), 0..4).prop_map(|members| {
                    serde_json::Value::Object(members.into_iter().collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn in_any_file_the_entry_is_added_and_nothing_else_changes(
            members in prop::collection::vec((".{0,6}", any_value()), 0..5),
            helpers in prop::option::of(prop::collection::vec(("[a-z.]{1,9}", "[a-z]{1,5}"), 1..4)),
            pretty: bool,
        ) {
            let mut before: serde_json::Map<_, _> = members.into_iter().collect();
            if let Some(helpers) = helpers {
                let helpers = helpers.into_iter().map(|(host, name)| (host, name.into())).collect();
                before.insert("credHelpers".into(), serde_json::Value::Object(helpers));
            }
            let text = match pretty {
                true => serde_json::to_string_pretty(&before).unwrap(),
                false => serde_json::to_string(&before).unwrap(),
            };
            let set = set(&text, "credHelpers", "R.EXAMPLE", "aliyun");
            let mut after: serde_json::Map<_, _> = serde_json::from_str(&set).unwrap();
            let helpers = after["credHelpers"].as_object_mut().unwrap();
            prop_assert_eq!(helpers.remove("R.EXAMPLE"), Some("aliyun".into()));
            if helpers.is_empty() {
                after.remove("credHelpers");
            }
            prop_assert_eq!(&after, &before);
            prop_assert_eq!(remove(&set, "credHelpers", "R.EXAMPLE"), text);
        }
    }

    #[test]
    fn strings_that_look_like_structure_are_strings() {
        let text = r#"{"a\"}{,": "\\\"{", "credHelpers": {"x\\": "}"}}"#;
        let expected = r#"{"a\"}{,": "\\\"{", "credHelpers": {"x\\": "}","r.example": "aliyun"}}"#;
        assert_eq!(set_host(text), expected);
        assert_eq!(remove(expected, "credHelpers", "r.example"), text);
    }
}
