//! A case: a context, a Dockerfile, images in a registry and options, and how they come to lie on a
//! disk.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use smartbuild_test_rig::{Image, Registry};

use super::{
    oracle::Features,
    recipe::{Instruction, Recipe, Style},
    servers::Hosts,
    tree::{Checkout, Node, Tree},
};

/// Everything that a build is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) tree: Tree,
    /// Lines of `.dockerignore`.
    pub(super) ignore: Option<Vec<String>>,
    /// Lines of `Dockerfile.dockerignore`.
    pub(super) own_ignore: Option<Vec<String>>,
    pub(super) recipe: Recipe,
    pub(super) style: Style,
    /// Whether the Dockerfile lies in the context, where `COPY .` sees it.
    pub(super) inside: bool,
    pub(super) arguments: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) target: Option<usize>,
    pub(super) platform: Option<&'static str>,
    /// The images of the registry, by repository. Each has the tag `1`.
    pub(super) images: BTreeMap<String, Base>,
    /// Named contexts.
    pub(super) contexts: BTreeMap<String, Tree>,
    /// Whether they are given by the long form of their names.
    pub(super) long_names: bool,
    /// The proxy in Docker's configuration.
    pub(super) proxy: Option<String>,
    /// The files of the server, by path.
    pub(super) remotes: BTreeMap<String, Remote>,
    /// The secrets that are given, by identifier.
    pub(super) secrets: BTreeMap<String, String>,
    pub(super) checkout: Checkout,
    pub(super) features: Features,
}

/// An image of the registry: the rig's base image and a little more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) content: String,
    pub(super) env: BTreeMap<String, String>,
    pub(super) triggers: Vec<String>,
    pub(super) label: Option<String>,
}

impl Base {
    pub(super) fn push(&self, registry: &Registry, repository: &str) {
        let mut image = Image::base().clone().files(&[("etc/image.txt", &self.content)]);
        for (name, value) in &self.env {
            image = image.env(name, value);
        }
        for trigger in &self.triggers {
            image = image.onbuild(trigger);
        }
        if let Some(label) = &self.label {
            image = image.label("base", label);
        }
        registry.push(repository, "1", &image);
    }
}

/// A file of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) content: String,
    pub(super) validator: Validator,
    /// How often it was published.
    pub(super) version: u32,
}

/// By what a server says whether a file is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validator {
    /// An `ETag`, made from the content.
    Tag,
    /// The time of its publication.
    Date,
    /// By nothing.
    None,
}

/// A case on disk.
#[derive(Debug)]
pub(super) struct Laid {
    directory: tempfile::TempDir,
    inside: bool,
}

impl Laid {
    pub(super) fn context(&self) -> PathBuf {
        self.directory.path().join("context")
    }

    /// The directory that the Dockerfile lies in.
    pub(super) fn beside(&self) -> PathBuf {
        if self.inside { self.context() } else { self.directory.path().join("docker") }
    }

    pub(super) fn dockerfile(&self) -> PathBuf {
        self.beside().join("Dockerfile")
    }

    /// The directory of Docker's configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.directory.path().join("config")
    }

    /// A named context, by its place among them.
    fn named(&self, index: usize) -> PathBuf {
        self.directory.path().join(format!("named{index}"))
    }

    fn secret(&self, id: &str) -> PathBuf {
        self.directory.path().join(format!("secret-{id}"))
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Case {
    /// The stage that is built.
    pub(super) fn goal(&self) -> usize {
        self.target.unwrap_or(self.recipe.stages.len() - 1)
    }

    /// Takes the exceptions out of the ignore files.
    pub(super) fn ignore_without_exceptions(&mut self) {
        for lines in [&mut self.ignore, &mut self.own_ignore].into_iter().flatten() {
            lines.retain(|line| !line.trim_start().starts_with('!'));
        }
    }

    pub(super) fn text(&self, hosts: &Hosts) -> String {
        self.recipe.text(self.style, hosts)
    }

    /// The text with no hosts in it.
    pub(super) fn plain_text(&self) -> String {
        self.text(&Hosts::default())
    }

    /// What is typed on the command line beside the Dockerfile and the context: names of options,
    /// and values.
    pub(super) fn options(&self, laid: &Laid, hosts: &Hosts) -> Vec<(&'static str, String)> {
        let mut options = Vec::new();
        let pairs = [("build-arg", &self.arguments), ("label", &self.labels)];
        for (option, pairs) in pairs {
            let text = |(name, value)| (option, hosts.place(&format!("{name}={value}")));
            options.extend(pairs.iter().map(text));
        }
        for (index, name) in self.contexts.keys().enumerate() {
            let name = match self.long_names && !name.contains('/') {
                true => format!("docker.io/library/{name}:latest"),
                false => hosts.place(name),
            };
            let value = format!("{name}={}", laid.named(index).display());
            options.push(("build-context", value));
        }
        for id in self.secrets.keys() {
            options.push(("secret", format!("id={id},src={}", laid.secret(id).display())));
        }
        options.extend(self.target.map(|target| ("target", self.recipe.call(target, false))));
        options.extend(self.platform.map(|platform| ("platform", platform.to_owned())));
        options
    }

    /// The tree with the ignore file, and the Dockerfile if it lies there.
    fn whole_tree(&self, hosts: &Hosts) -> Tree {
        let mut tree = self.tree.clone();
        if let Some(lines) = &self.ignore {
            tree.insert(".dockerignore", Node::file(lines.join("\n")));
        }
        if self.inside {
            tree.insert("Dockerfile", Node::file(self.text(hosts)));
            if let Some(lines) = &self.own_ignore {
                tree.insert("Dockerfile.dockerignore", Node::file(lines.join("\n")));
            }
        }
        tree
    }

    pub(super) fn lay(&self, hosts: &Hosts) -> Laid {
        let directory = tempfile::Builder::new().prefix("soundness-").tempdir().unwrap();
        let laid = Laid { directory, inside: self.inside };
        fs::create_dir(laid.context()).unwrap();
        self.whole_tree(hosts).write(&laid.context(), self.checkout);
        if !self.inside {
            fs::create_dir(laid.beside()).unwrap();
            fs::write(laid.dockerfile(), self.text(hosts)).unwrap();
            if let Some(lines) = &self.own_ignore {
                let path = laid.beside().join("Dockerfile.dockerignore");
                fs::write(path, lines.join("\n")).unwrap();
            }
        }
        for (index, tree) in self.contexts.values().enumerate() {
            fs::create_dir(laid.named(index)).unwrap();
            tree.write(&laid.named(index), self.checkout);
        }
        fs::create_dir(laid.config()).unwrap();
        if let Some(proxy) = &self.proxy {
            let config = json!({ "proxies": { "default": { "httpProxy": proxy } } });
            fs::write(laid.config().join("config.json"), config.to_string()).unwrap();
        }
        for (id, value) in &self.secrets {
            fs::write(laid.secret(id), value).unwrap();
        }
        laid
    }

    /// Whether something of the context may be read that no instruction names.
    pub(super) fn reads_broadly(&self) -> bool {
        let links = self.tree.links();
        let mut targets = links.iter().map(|path| self.tree.get(path));
        targets.any(|node| matches!(node, Some(Node::Link(target)) if target.ends_with("..")))
            || self.recipe.instructions().any(Instruction::is_broad)
            // A stage that is a context, or starts from one, has all of it.
            || self.recipe.stages.iter().any(|stage| {
                let names = stage.name.iter().map(|name| name.to_lowercase());
                let bases = stage.base.split(' ').map(str::to_owned);
                names.chain(bases).any(|name| self.contexts.contains_key(&name))
            })
            || self.images.values().any(|image| image.triggers.iter().any(|t| t.contains(" . ")))
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arguments, labels, platform, images, checkout, .. } = self;
        let hosts = Hosts { registry: "REGISTRY".to_owned(), site: "SITE".to_owned() };
        writeln!(
            f,
            "--- options: target {:?}, arguments {arguments:?}, labels {labels:?}, platform {platform:?}, \
             {checkout:?}, long names {}, proxy {:?}",
            self.target, self.long_names, self.proxy
        )?;
        for (name, image) in images {
            writeln!(f, "--- image {name}: {image:?}")?;
        }
        for (path, remote) in &self.remotes {
            writeln!(f, "--- {path}: {remote:?}")?;
        }
        for (id, value) in &self.secrets {
            writeln!(f, "--- secret {id}: {value}")?;
        }
        for (name, tree) in &self.contexts {
            write!(f, "--- context {name}\n{tree}")?;
        }
        if let Some(lines) = &self.own_ignore {
            writeln!(f, "--- Dockerfile.dockerignore {lines:?}")?;
        }
        let place = if self.inside { "in" } else { "out of" };
        let text = self.text(&hosts);
        write!(f, "--- Dockerfile, {place} the context\n{text}--- context\n")?;
        write!(f, "{}", self.whole_tree(&hosts))
    }
}
