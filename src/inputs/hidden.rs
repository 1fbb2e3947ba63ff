//! Inputs as others may read them: without the values of build arguments that were given from outside.
//!
//! A record lies in the registry, where whoever may pull can read it, and a value that only a stage
//! before the target sees would be in no layer of the image. So a record has a short digest in its
//! place: enough to see that it changed, and too little to tell a value that cannot be guessed.

use std::{borrow::Cow, collections::BTreeMap};

use sha2::{Digest as _, Sha256};

use super::{Inputs, Instruction, Remote, Stage};

/// How a value that was given is written.
const HIDDEN: &str = "a given value (";
/// So many hexadecimal digits of its digest. The same for every record: one with a salt of its own would
/// give away as many more each.
const DIGITS: usize = 6;
/// Shorter values are too common in texts to be replaced wherever they occur.
const SHORTEST: usize = 6;

impl Inputs {
    /// The same without the values of `given`, as far as they are in force here: in the arguments, in
    /// instructions that they were expanded into, and in addresses.
    #[must_use]
    pub fn hiding(&self, given: &BTreeMap<String, String>) -> Self {
        let in_force = |(name, value): &(&String, &String)| {
            self.arguments.get(*name).is_some_and(|known| known.as_ref() == Some(*value))
        };
        let given: Vec<_> = given.iter().filter(in_force).map(|(n, v)| Given::new(n, v)).collect();
        if given.is_empty() {
            return self.clone();
        }
        let text = |text: &str| {
            let text = Cow::Borrowed(text);
            given.iter().fold(text, |text, given| given.hidden_in(text)).into_owned()
        };
        let instruction = |i: &Instruction| Instruction { line: i.line, text: text(&i.text) };
        let stage = |stage: &Stage| Stage {
            name: stage.name.clone(),
            instructions: stage.instructions.iter().map(instruction).collect(),
        };
        let remote = |r: &Remote| Remote { url: text(&r.url), identity: r.identity.clone() };
        let mut hidden = self.clone();
        hidden.stages = self.stages.iter().map(stage).collect();
        hidden.remotes = self.remotes.iter().map(remote).collect();
        for given in &given {
            hidden.arguments.insert(given.name.to_owned(), Some(given.hidden.clone()));
        }
        hidden
    }

    /// The same without the values that `other` hides, so that the two can be compared.
    #[must_use]
    pub fn hiding_like(&self, other: &Self) -> Self {
        let is_hidden = |name: &String| {
            let value = other.arguments.get(name).and_then(Option::as_ref);
            value.is_some_and(|value| value.starts_with(HIDDEN))
        };
        let shown = self.arguments.iter().filter_map(|(name, value)| {
            let value = value.as_ref().filter(|value| !value.starts_with(HIDDEN))?;
            is_hidden(name).then(|| (name.clone(), value.clone()))
        });
        self.hiding(&shown.collect())
    }
}

/// A value that was given, and what stands for it.
struct Given<'a> {
    name: &'a str,
    /// As it can occur in a text: plain, and as a JSON string has it.
    forms: [String; 2],
    hidden: String,
}

impl<'a> Given<'a> {
    fn new(name: &'a str, value: &str) -> Self {
        let json = serde_json::Value::from(value).to_string();
        let json = json.trim_start_matches('"').strip_suffix('"').unwrap_or_default().to_owned();
        // The length of the name goes first, so that no two pairs are one text.
        let digest = Sha256::digest(format!("smartbuild argument {} {name}={value}", name.len()));
        let digits: String = hex::encode(digest).chars().take(DIGITS).collect();
        Self { name, forms: [value.to_owned(), json], hidden: format!("{HIDDEN}{digits})") }
    }

    fn hidden_in<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        let mut text = text;
        for form in self.forms.iter().filter(|form| !form.is_empty()) {
            for assigned in [format!("{}={form}", self.name), format!("{}=\"{form}\"", self.name)] {
                if text.strip_prefix("ARG ").is_some_and(|rest| rest == assigned) {
                    text = format!("ARG {}={}", self.name, self.hidden).into();
                }
            }
            if form.chars().count() >= SHORTEST && text.contains(form.as_str()) {
                text = text.replace(form.as_str(), &self.hidden).into();
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::tests::sample;

    fn inputs(token: &str) -> Inputs {
        let mut inputs = sample();
        inputs.arguments.insert("TOKEN".into(), Some(token.into()));
        let mut add = |text: String| {
            inputs.stages[0].instructions.push(Instruction { line: 9, text });
        };
        add(format!("ARG TOKEN={token}"));
        add(format!("ENV T={token} V={}", serde_json::Value::from(format!("x {token}"))));
        inputs.remotes[0].url = format!("https://ci:{token}@e.example/x");
        inputs
    }

    fn given(token: &str) -> BTreeMap<String, String> {
        [("TOKEN".to_owned(), token.to_owned()), ("UNUSED".to_owned(), "5".to_owned())].into()
    }

    #[test]
    fn no_value_that_was_given_is_in_what_others_read() {
        for token in ["hunter2-hunter2", "quoted\"value", "back\\slash-value"] {
            let hidden = inputs(token).hiding(&given(token));
            let text = serde_json::to_string(&hidden).unwrap();
            let plain = serde_json::Value::from(token).to_string();
            assert!(!text.contains(plain.trim_matches('"')), "{text}");
            assert_eq!(hidden.arguments["VERSION"].as_deref(), Some("1"), "a default is no secret");
            assert!(!hidden.arguments.contains_key("UNUSED"));
        }
        let short = serde_json::to_string(&inputs("zzz").hiding(&given("zzz"))).unwrap();
        assert!(!short.contains("ARG TOKEN=zzz"), "{short}");
    }

    #[test]
    fn what_changed_can_be_told_without_the_values() {
        let record = inputs("hunter2-one").hiding(&given("hunter2-one"));
        let same = inputs("hunter2-one").hiding_like(&record);
        assert_eq!(same, record);
        let other = inputs("hunter2-two").hiding_like(&record);
        let difference = super::super::Difference::between(&record, &other);
        assert!(difference.summary().contains("argument `TOKEN` changed"), "{difference:?}");
        assert!(!format!("{difference:?}").contains("hunter2"), "{difference:?}");
    }
}
