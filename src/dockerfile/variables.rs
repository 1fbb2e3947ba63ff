//! The variables of a stage: what `ENV` and `ARG` set, and what its base brings along.

use std::collections::BTreeMap;

use super::{
    BaseImage,
    words::{Scope, Value},
};
use crate::platform::Platform;

/// `util/system/path.go: DefaultPathEnvUnix`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names with values; a value that is `None` is set, but not known here.
type Values = BTreeMap<String, Option<String>>;

/// The variables at one place of a stage.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables {
    /// What an instruction sees.
    seen: Values,
    /// What the image keeps: without the `ARG`s.
    kept: Values,
    /// There may be others: the base is not known.
    open: bool,
}

impl Variables {
    /// Those at the beginning of a stage on an image, or on nothing.
    pub(super) fn of_base(base: Option<&BaseImage>, platform: &Platform) -> Self {
        let mut variables = Self { open: base.is_none(), ..Self::default() };
        for (name, value) in base.into_iter().flat_map(|base| &base.env) {
            variables.env(name.clone(), Some(value.clone()));
        }
        if !variables.open && platform.os != "windows" && !variables.kept.contains_key("PATH") {
            variables.env("PATH".to_owned(), Some(DEFAULT_PATH.to_owned()));
        }
        variables
    }

    /// Those at the beginning of a stage on one that ends with these: the `ARG`s are still seen, but
    /// where one hid an `ENV` it does so no more.
    pub(super) fn of_stage(&self) -> Self {
        let mut variables = self.clone();
        variables.seen.extend(self.kept.clone());
        variables
    }

    /// `ENV`.
    pub(super) fn env(&mut self, name: String, value: Option<String>) {
        self.kept.insert(name.clone(), value.clone());
        self.seen.insert(name, value);
    }

    /// `ARG` with a value.
    pub(super) fn arg(&mut self, name: String, value: Option<String>) {
        self.seen.insert(name, value);
    }

    /// A name that is not known was set: it can be any.
    pub(super) fn forget(&mut self) {
        for values in [&mut self.seen, &mut self.kept] {
            values.values_mut().for_each(|value| *value = None);
        }
        self.open = true;
    }
}

impl Scope for Variables {
    fn get(&self, name: &str) -> Value<'_> {
        match self.seen.get(name) {
            Some(Some(value)) => Value::Set(value),
            Some(None) => Value::Unknown,
            None if self.open => Value::Unknown,
            None => Value::Unset,
        }
    }
}
