//! What a person would notice of the whole module.

mod canonical;
mod parsing;
mod pinning;
mod slicing;
mod target;

use super::*;

/// `linux/amd64`, on a builder of the same.
fn request() -> Request {
    Request::new("linux/amd64".parse().unwrap())
}

fn request_with<const N: usize>(arguments: [(&str, &str); N]) -> Request {
    let build_args =
        arguments.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Request { build_args, ..request() }
}

fn key(name: &str) -> ImageKey {
    ImageKey { name: name.to_owned(), platform: "linux/amd64".parse().unwrap() }
}

/// Bases without environment and triggers.
fn bases<const N: usize>(names: [&str; N]) -> BTreeMap<ImageKey, BaseImage> {
    names.into_iter().map(|name| (key(name), BaseImage::default())).collect()
}

fn slice_of(text: &str, request: &Request, bases: &BTreeMap<ImageKey, BaseImage>) -> Slice {
    let file = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    file.slice(request, bases).unwrap_or_else(|error| panic!("{error}"))
}

/// The slice of a file whose images are all known and plain.
fn slice(text: &str) -> Slice {
    slice_with(text, &request())
}

fn slice_with(text: &str, request: &Request) -> Slice {
    let file = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let images = file.images(request).unwrap_or_else(|error| panic!("{error}"));
    let bases = images.into_iter().map(|found| (found.key, BaseImage::default())).collect();
    slice_of(text, request, &bases)
}

/// All canonical text of a slice.
fn texts(slice: &Slice) -> Vec<String> {
    let stages = slice.stages.iter();
    stages.flat_map(|stage| stage.instructions.iter().map(|step| step.text.clone())).collect()
}

fn error_of(text: &str) -> Error {
    let all = |file: Dockerfile| file.slice(&request(), &bases(["x"]));
    parse(text.as_bytes()).and_then(all).expect_err(text)
}
