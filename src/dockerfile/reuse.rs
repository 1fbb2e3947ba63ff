//! Stages that an image of their own can stand for.
//!
//! An image carries the files of a stage and the settings that its instructions made: environment,
//! directory, user, shell. It does not carry what only the text of a stage says, so that stages of
//! which that matters to others are left as they are.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Base, ContextRead, Dockerfile, Error, Request, Slice, SlicedStage,
    instruction::Kind,
    stages::{Graph, Source},
};

impl Dockerfile {
    /// The names of the stages of `slice` for which an image can stand that was built with the stage
    /// as its target: those that run something, and whose image is all that others see of them.
    /// The target itself is not among them.
    ///
    /// # Errors
    /// Those of [`Dockerfile::slice`].
    pub fn reusable(&self, request: &Request, slice: &Slice) -> Result<Vec<String>, Error> {
        let graph = Graph::new(self, request).map_err(|fault| Error::locate(&self.text, fault))?;
        // It has another value where a stage is the target.
        if slice.arguments.contains_key("TARGETSTAGE") {
            return Ok(Vec::new());
        }
        // An `ARG` holds in the stages that start from its own too, and an image has none.
        let mut with_arguments = BTreeSet::new();
        for (place, stage) in slice.stages.iter().enumerate() {
            let inherits =
                matches!(stage.base, Base::Stage(base) if with_arguments.contains(&base));
            if inherits || stage.instructions.iter().any(|i| i.text.starts_with("ARG ")) {
                with_arguments.insert(place);
            }
        }
        let bases: BTreeSet<usize> = slice
            .stages
            .iter()
            .filter_map(|stage| if let Base::Stage(base) = stage.base { Some(base) } else { None })
            .collect();
        let mut named: BTreeMap<&str, usize> = BTreeMap::new();
        for name in self.stage_names() {
            *named.entry(name).or_default() += 1;
        }
        let reusable = slice.stages.iter().enumerate().filter(|(place, stage)| {
            let text = &self.stages[stage.index];
            stage.index != graph.target
                && stage.name.as_deref().is_some_and(|name| named.get(name) == Some(&1))
                && stage.instructions.iter().any(|i| i.text.starts_with("RUN "))
                // Triggers are for who starts from an image, and would have run already.
                && !text.body.iter().any(|i| matches!(i.kind, Kind::Onbuild(_)))
                && !(with_arguments.contains(place) && bases.contains(place))
                && is_of_the_target(&graph, stage.index, request)
        });
        Ok(reusable.filter_map(|(_, stage)| stage.name.clone()).collect())
    }

    /// The text with images in the place of stages, given by name. Every line that is left stands
    /// where it was.
    #[must_use]
    pub fn with_images(&self, images: &[(String, String)]) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.text.len());
        let mut from = 0;
        for (index, stage) in self.stages.iter().enumerate() {
            let name = stage.from.name.as_ref();
            let Some((name, image)) = images.iter().find(|(of, _)| Some(of) == name) else {
                continue;
            };
            let (start, end) = (self.stage_start(index), self.stage_start(index + 1));
            text.extend_from_slice(&self.text[from..start]);
            let stage = in_place_of_stage(&self.text[start..end], name, image);
            text.extend_from_slice(stage.as_bytes());
            from = end;
        }
        text.extend_from_slice(&self.text[from..]);
        text
    }

    /// Where the lines of a stage begin; behind the last stage, the end of the text.
    pub(super) fn stage_start(&self, index: usize) -> usize {
        let Some(stage) = self.stages.get(index) else { return self.text.len() };
        let newline = self.text[..stage.at].iter().rposition(|byte| *byte == b'\n');
        newline.map_or(0, |newline| newline + 1)
    }
}

impl Slice {
    /// What is still read of contexts when images stand for the stages of these names: neither they
    /// are built, nor what nobody else uses.
    pub fn reads_without<'a>(
        &'a self,
        names: &BTreeSet<&str>,
    ) -> impl Iterator<Item = &'a ContextRead> {
        let is_built =
            |stage: &&SlicedStage| !stage.name.as_deref().is_some_and(|name| names.contains(name));
        let mut built = BTreeSet::new();
        // The target comes last, for a stage can only use earlier ones.
        let mut open: Vec<usize> = self.stages.len().checked_sub(1).into_iter().collect();
        while let Some(place) = open.pop() {
            if let Some(stage) = self.stages.get(place).filter(is_built)
                && built.insert(place)
            {
                open.extend(&stage.uses);
            }
        }
        self.reads.iter().filter(move |read| built.contains(&read.stage))
    }
}

/// An image in the place of a stage that is called `name`, with as many lines as that had.
pub(super) fn in_place_of_stage(old: &[u8], name: &str, image: &str) -> String {
    format!("FROM {image} AS {name}{}", "\n".repeat(lines(old)))
}

/// How many lines end in a text.
pub(super) fn lines(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}

/// Whether the image of a stage is for the platform that is built for.
fn is_of_the_target(graph: &Graph<'_>, index: usize, request: &Request) -> bool {
    let node = &graph.nodes[index];
    match &node.source {
        _ if node.replaced => false,
        Source::Image(key, _) => key.platform == request.platform,
        Source::Stage(base) => is_of_the_target(graph, *base, request),
        Source::Scratch => graph.stage(index).from.platform.is_none(),
        Source::Context(..) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dockerfile::{BaseImage, ImageKey},
        platform::Platform,
    };

    fn reusable(text: &str) -> Vec<String> {
        let mut request = Request::new("linux/amd64".parse().unwrap());
        request.build_platform = "linux/arm64".parse::<Platform>().unwrap();
        let dockerfile = super::super::parse(text.as_bytes()).unwrap();
        let slice = dockerfile.slice(&request, &BTreeMap::new()).unwrap();
        dockerfile.reusable(&request, &slice).unwrap()
    }

    #[test]
    fn stages_that_run_something_are_worth_it() {
        let text = "FROM a AS one\nRUN x\nFROM a AS two\nCOPY x /\nFROM a AS three\nRUN y\n\
                    FROM a\nRUN y\nFROM a AS last\nRUN z\nCOPY --from=one x /\nCOPY --from=two x /\n\
                    COPY --from=3 x /\n";
        assert_eq!(reusable(text), ["one"], "neither two, three (not reached), 3 nor the target");
    }

    #[test]
    fn what_an_image_does_not_carry_keeps_a_stage() {
        let of = |one: &str, two: &str, last: &str| {
            reusable(&format!("FROM {one}\nRUN x\nFROM {two}\nRUN y\nFROM {last}\n"))
        };
        assert_eq!(of("a AS one", "one AS two", "two"), ["one", "two"]);
        let arg = "a AS one\nARG V";
        assert_eq!(of(arg, "one AS two", "two"), [""; 0], "ARG holds in two and last");
        assert_eq!(of(arg, "one AS two", "a\nCOPY --from=two / /"), ["two"]);
        assert_eq!(of(arg, "a AS two\nCOPY --from=one / /", "two"), ["one", "two"]);
        assert_eq!(of("a AS one\nONBUILD RUN z", "a AS two", "two\nCOPY --from=one / /"), ["two"]);
        assert_eq!(of("a AS one", "a AS one", "one"), [""; 0], "which one?");
        assert_eq!(
            of("a AS one\nARG TARGETSTAGE", "a AS two", "two\nCOPY --from=one / /"),
            [""; 0]
        );
        assert_eq!(of("a$TARGETSTAGE AS one", "a AS two", "two\nCOPY --from=one / /"), [""; 0]);
        let native = "--platform=$BUILDPLATFORM a AS one";
        assert_eq!(of(native, "one AS two", "two"), [""; 0], "of another platform");
        let target = "--platform=$TARGETPLATFORM a AS one";
        assert_eq!(of(target, "one AS two", "two"), ["one", "two"]);
    }

    #[test]
    fn what_only_replaced_stages_need_is_not_read() {
        let text = "FROM a AS first\nCOPY 2 /\nFROM first AS heavy\nCOPY 4 /\nRUN x\n\
                    FROM a AS shared\nCOPY 7 /\nFROM shared AS other\nCOPY --from=heavy / /\n\
                    RUN --mount=source=10,target=/m x\nFROM a\nCOPY --from=other / /\n\
                    RUN --mount=from=shared,target=/m x\nCOPY 14 /\n";
        let dockerfile = super::super::parse(text.as_bytes()).unwrap();
        let request = Request::new("linux/amd64".parse().unwrap());
        let slice = dockerfile.slice(&request, &[(key("a"), BaseImage::default())].into()).unwrap();
        let without = |names: &[&str]| {
            let names = names.iter().copied().collect();
            slice.reads_without(&names).map(|read| read.line).collect::<Vec<_>>()
        };
        assert_eq!(without(&[]), [2, 4, 7, 10, 14]);
        assert_eq!(without(&["heavy"]), [7, 10, 14], "nor what only it starts from");
        assert_eq!(without(&["other"]), [7, 14], "shared is mounted");
        assert_eq!(without(&["other", "shared"]), [14]);
        assert_eq!(without(&["first"]), [4, 7, 10, 14]);
    }

    fn key(name: &str) -> ImageKey {
        ImageKey { name: name.to_owned(), platform: "linux/amd64".parse().unwrap() }
    }

    #[test]
    fn an_image_takes_the_place_of_a_stage_and_lines_stay_where_they_are() {
        let text = "ARG V=1\n# first\nfrom a:$V \\\n AS one\nRUN <<E\nFROM b\nE\n# second\n\
                    FROM b AS Two\nRUN y\nFROM one\nCOPY --from=two / /";
        let dockerfile = super::super::parse(text.as_bytes()).unwrap();
        let with = |images: &[(&str, &str)]| {
            let images: Vec<_> =
                images.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            String::from_utf8(dockerfile.with_images(&images)).unwrap()
        };
        assert_eq!(with(&[]), text);
        assert_eq!(
            with(&[("one", "r/x@d")]),
            "ARG V=1\n# first\nFROM r/x@d AS one\n\n\n\n\n\nFROM b AS Two\nRUN y\nFROM one\n\
             COPY --from=two / /"
        );
        let both = with(&[("one", "r/x@d"), ("two", "r/y@d")]);
        assert!(both.ends_with("\nFROM r/y@d AS two\n\nFROM one\nCOPY --from=two / /"), "{both}");
        assert_eq!(both.lines().count(), text.lines().count());
    }
}
