//! Whether to build, and why.
//!
//! Pure: takes what was asked for and what was found, returns what to do. Must not know how anything
//! is found or done.

use std::fmt;

/// What looking for the image of a key found, in the registry or in the engine's store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<Image> {
    /// The image, verified to be of this key and platform.
    Image(Image),
    /// Nothing.
    Nothing,
    /// Something under the key's tag that is not what the tag says.
    Impostor(String),
    /// It could not be asked.
    Unanswered(String),
}

impl<Image> Found<Image> {
    /// The same with the image looked at in another way.
    #[must_use]
    pub fn map<Other>(self, look: impl FnOnce(Image) -> Other) -> Found<Other> {
        match self {
            Self::Image(image) => Found::Image(look(image)),
            Self::Nothing => Found::Nothing,
            Self::Impostor(reason) => Found::Impostor(reason),
            Self::Unanswered(reason) => Found::Unanswered(reason),
        }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan<Image> {
    /// Use the image that is there.
    Skip(Image),
    /// Build it.
    Build(Why),
}

/// Why an image is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The user asked for it, with this option.
    Forced(&'static str),
    /// The key cannot vouch for the image, because of this.
    NotSkippable(String),
    /// No image of this key was found.
    Missing,
    /// What is written into a file is built from its inputs, whatever the registry has.
    Output,
    /// What stands under the key's tag is not its image.
    Impostor(String),
    /// The registry could not be asked.
    Unanswered(String),
}

/// What the user and the inputs say, before anybody is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The option that asks for a build whatever is there: `--no-cache`, `--no-cache-filter`.
    pub forced: Option<&'static str>,
    /// Why the key does not cover everything, where it does not.
    pub not_skippable: Option<String>,
}

impl Wish {
    /// The reason to build without looking for the image first.
    #[must_use]
    pub fn build_anyway(&self) -> Option<Why> {
        match (&self.not_skippable, self.forced) {
            (Some(reason), _) => Some(Why::NotSkippable(reason.clone())),
            (None, Some(option)) => Some(Why::Forced(option)),
            (None, None) => None,
        }
    }
}

impl Why {
    /// Whether the image, once built, may stand under the key's tag.
    #[must_use]
    pub fn may_publish_key(&self) -> bool {
        !matches!(self, Self::NotSkippable(_))
    }

    /// Whether a person should be warned, since something is not as it should be.
    #[must_use]
    pub fn is_unexpected(&self) -> bool {
        matches!(self, Self::Impostor(_) | Self::Unanswered(_))
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forced(option) => write!(f, "{option} was given"),
            Self::NotSkippable(reason) => write!(f, "the build cannot be skipped: {reason}"),
            Self::Output => f.write_str("it is written into a file (--output)"),
            Self::Missing => f.write_str("there is no image of these inputs yet"),
            Self::Impostor(reason) => {
                write!(f, "what stands under the key's tag is not its image: {reason}")
            }
            Self::Unanswered(reason) => write!(f, "the registry could not be asked: {reason}"),
        }
    }
}

/// Decides.
#[must_use]
pub fn decide<Image>(wish: &Wish, found: Found<Image>) -> Plan<Image> {
    if let Some(why) = wish.build_anyway() {
        return Plan::Build(why);
    }
    match found {
        Found::Image(image) => Plan::Skip(image),
        Found::Nothing => Plan::Build(Why::Missing),
        Found::Impostor(reason) => Plan::Build(Why::Impostor(reason)),
        Found::Unanswered(reason) => Plan::Build(Why::Unanswered(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verified_image_is_used_unless_the_user_or_the_inputs_object() {
        let found = || Found::Image("it");
        assert_eq!(decide(&Wish::default(), found()), Plan::Skip("it"));
        let forced = Wish { forced: Some("--no-cache"), ..Wish::default() };
        assert_eq!(decide(&forced, found()), Plan::Build(Why::Forced("--no-cache")));
        let uncovered = Wish { not_skippable: Some("ADD of a URL".into()), ..Wish::default() };
        let Plan::Build(why) = decide(&uncovered, found()) else { panic!("it was skipped") };
        assert!(!why.may_publish_key());
    }

    #[test]
    fn whatever_is_in_doubt_is_built() {
        let wish = Wish::default();
        for found in
            [Found::Nothing, Found::Impostor("label".into()), Found::Unanswered("503".into())]
        {
            let unexpected = found != Found::Nothing;
            let Plan::<()>::Build(why) = decide(&wish, found) else { panic!("it was skipped") };
            assert!(why.may_publish_key());
            assert_eq!(why.is_unexpected(), unexpected);
        }
    }
}
