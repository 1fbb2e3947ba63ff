//! What a request gives that nothing in the text takes.
//!
//! The whole text counts here, not only what the target reaches: who builds several targets gives
//! them all the same.

use std::collections::BTreeSet;

use super::{
    Dockerfile, Error, Request, Slice, evaluate,
    instruction::{self, Instruction, Kind},
    lex,
    stages::{Graph, Source},
};

/// Arguments that BuildKit has without an `ARG` for them (`dockerfile2llb/convert.go`:
/// `proxyEnvFromBuildArgs`), in upper and in lower case.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

impl Dockerfile {
    /// The names that an `ARG` declares, anywhere.
    #[must_use]
    pub fn argument_names(&self) -> BTreeSet<String> {
        let instructions = self.globals.iter().chain(self.stages.iter().flat_map(|s| &s.body));
        let mut names = BTreeSet::new();
        for instruction in instructions {
            match &instruction.kind {
                Kind::Onbuild(text) => {
                    let read = lex::lex_trigger(text)
                        .and_then(|statement| instruction::read(&statement, self.escape));
                    names.extend(read.iter().flat_map(declared));
                }
                _ => names.extend(declared(instruction)),
            }
        }
        names
    }

    /// The build arguments of a request that no `ARG` declares, neither here nor in a trigger of a base
    /// in `slice`, and that mean nothing by themselves.
    #[must_use]
    pub fn unused_arguments<'r>(&self, request: &'r Request, slice: &Slice) -> Vec<&'r str> {
        let declared = self.argument_names();
        let is_used = |name: &str| {
            declared.contains(name)
                || slice.arguments.contains_key(name)
                || evaluate::steers(name)
                || PROXIES.iter().any(|proxy| *proxy == name || proxy.to_lowercase() == name)
                || is_of_platforms(name)
        };
        request.build_args.keys().map(String::as_str).filter(|name| !is_used(name)).collect()
    }

    /// The named contexts of a request that nothing reads: neither here nor a trigger of a base in
    /// `slice`. Of those for one platform nothing is said.
    ///
    /// # Errors
    /// Those of [`Dockerfile::slice`].
    pub fn unused_contexts<'r>(
        &self,
        request: &'r Request,
        slice: &Slice,
    ) -> Result<Vec<&'r str>, Error> {
        let graph = Graph::new(self, request).map_err(|fault| Error::locate(&self.text, fault))?;
        let mut used: BTreeSet<String> =
            slice.images.iter().filter_map(|image| image.context.clone()).collect();
        let mut note = |source: &Source| match source {
            Source::Context(name, _) | Source::Image(_, Some(name)) => {
                used.insert(name.clone());
            }
            _ => {}
        };
        graph.nodes.iter().for_each(|node| note(&node.source));
        for (index, stage) in self.stages.iter().enumerate() {
            for Instruction { kind, at, .. } in &stage.body {
                match kind {
                    Kind::Copy(transfer) => {
                        let from = transfer.from.iter();
                        let sources = from.map(|origin| graph.copy_from(index, origin, *at));
                        sources.flatten().for_each(|source| note(&source));
                    }
                    Kind::Run(run) => {
                        let from = run.mounts.iter().filter_map(|mount| mount.from.as_ref());
                        let sources = from.map(|origin| graph.mount_from(index, origin, *at));
                        sources.flatten().for_each(|source| note(&source));
                    }
                    _ => {}
                }
            }
        }
        let names = request.contexts.iter().chain(request.images.keys()).map(String::as_str);
        Ok(names.filter(|name| !used.contains(*name) && !name.contains("::")).collect())
    }
}

fn declared(instruction: &Instruction) -> impl Iterator<Item = String> + use<'_> {
    let arguments = match &instruction.kind {
        Kind::Arg(arguments) => arguments.as_slice(),
        _ => &[],
    };
    arguments.iter().map(|argument| argument.name.clone())
}

/// `TARGETPLATFORM`, `BUILDARCH` and their like, which a request can set too.
fn is_of_platforms(name: &str) -> bool {
    let side = name.strip_prefix("TARGET").or_else(|| name.strip_prefix("BUILD"));
    let known = ["PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT"];
    name == "TARGETSTAGE" || side.is_some_and(|what| known.contains(&what))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::platform::Platform;

    #[test]
    fn what_the_whole_text_takes_is_used() {
        let text = "ARG G\nFROM scratch AS one\nARG A B=1\nONBUILD ARG T\nCOPY --from=c x /\n\
                    FROM docker.io/library/d AS two\nRUN --mount=from=e:latest,target=/e x\n\
                    FROM scratch\n";
        let mut request = Request::new(Platform::host());
        let names = ["A", "B", "G", "T", "X", "no_proxy", "BUILDKIT_X", "TARGETARCH", "SOURCE"];
        request.build_args = names.map(|name| (name.to_owned(), "1".to_owned())).into();
        request.contexts = ["c", "d", "e", "f", "one", "f::linux/arm"].map(str::to_owned).into();
        let dockerfile = super::super::parse(text.as_bytes()).unwrap();
        let slice = dockerfile.slice(&request, &BTreeMap::new()).unwrap();
        assert_eq!(dockerfile.unused_arguments(&request, &slice), ["SOURCE", "X"]);
        assert_eq!(dockerfile.unused_contexts(&request, &slice).unwrap(), ["f"]);
    }
}
