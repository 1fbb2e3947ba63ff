//! Makes cases: a context, a Dockerfile, images in a registry and options, from one seed.

use std::collections::BTreeMap;

use fastrand::Rng;
use smartbuild_test_rig::sha256;

use super::{
    case::{Base, Case, Remote, Validator},
    oracle::Features,
    recipe::{Instruction, Recipe, Stage, Style},
    tree::{self, Checkout, Node, Tree},
};

/// The names that arguments and variables have.
const VARIABLES: [&str; 5] = ["A", "B", "VERSION", "DEST", "who"];
/// What steps may print beside those.
const PRINTED: [&str; 8] =
    ["A", "B", "VERSION", "DEST", "who", "TARGETSTAGE", "TARGETARCH", "BASE"];

/// The secrets that steps mount.
pub(super) const SECRETS: [&str; 2] = ["token", "other"];
/// The named context that is no stage and no image.
const OTHER: &str = "other";

/// Makes a case from a seed.
pub(super) fn case(seed: u64, features: Features) -> Case {
    let mut rng = Rng::with_seed(seed);
    let rng = &mut rng;
    let tree = tree::tree(rng);
    let images = images(rng, seed);
    let contexts = if features.contexts { contexts(rng, &images) } else { BTreeMap::new() };
    let remotes = remotes(rng, seed);
    let mut maker = Maker {
        rng: rng.fork(),
        tree: &tree,
        images: &images,
        contexts: &contexts,
        remotes: &remotes,
        features,
        next: 0,
    };
    let recipe = maker.recipe();
    let named = recipe.named();
    let ignore = (rng.u8(..3) > 0).then(|| ignore(rng, &tree, features));
    let own_ignore = (rng.u8(..8) == 0).then(|| self::ignore(rng, &tree, features));
    let mut arguments = BTreeMap::new();
    for name in VARIABLES {
        if rng.u8(..4) == 0 {
            arguments.insert(name.to_owned(), format!("given{}", rng.u8(..10)));
        }
    }
    let mut secrets = BTreeMap::new();
    for id in SECRETS {
        if rng.bool() {
            secrets.insert(id.to_owned(), "hush".to_owned());
        }
    }
    Case {
        ignore,
        own_ignore,
        recipe,
        style: Style { layout: rng.u64(..) * u64::from(rng.bool()), case: 0, numbers: rng.bool() },
        inside: rng.u8(..3) == 0,
        arguments,
        labels: BTreeMap::new(),
        target: (rng.u8(..8) == 0 && !named.is_empty()).then(|| named[rng.usize(..named.len())]),
        platform: None,
        images,
        contexts,
        long_names: rng.u8(..4) == 0,
        proxy: None,
        remotes,
        secrets,
        checkout: Checkout::Plain,
        features,
        tree,
    }
}

/// Two images: one to start from, with triggers now and then, and one to copy from.
fn images(rng: &mut Rng, seed: u64) -> BTreeMap<String, Base> {
    let mut base = Base { content: "base\n".into(), ..Base::default() };
    if rng.bool() {
        base.env.insert("A".into(), "from-base".into());
    }
    if rng.u8(..4) == 0 {
        base.triggers = vec![trigger(rng)];
    }
    let tools = Base { content: "tools\n".into(), ..Base::default() };
    [(format!("s{seed:x}/base"), base), (format!("s{seed:x}/tools"), tools)].into()
}

/// Named contexts: one to copy from, and now and then one for a stage or an image.
fn contexts(rng: &mut Rng, images: &BTreeMap<String, Base>) -> BTreeMap<String, Tree> {
    let mut contexts = BTreeMap::new();
    let context = |rng: &mut Rng| {
        let mut tree = tree::tree(rng);
        tree.insert("out/keep.txt", Node::file("kept in a context\n"));
        tree.insert("etc/image.txt", Node::file("no image\n"));
        tree
    };
    if rng.bool() {
        contexts.insert(OTHER.to_owned(), context(rng));
    }
    if rng.u8(..4) == 0 {
        contexts.insert(format!("stage{}", rng.u8(..3)), context(rng));
    }
    if rng.u8(..6) == 0 {
        let tools = images.keys().find(|name| name.ends_with("tools"));
        contexts.extend(tools.map(|name| (format!("@registry@/{name}:1"), context(rng))));
    }
    contexts
}

/// Two files of the server.
fn remotes(rng: &mut Rng, seed: u64) -> BTreeMap<String, Remote> {
    let names = ["file.txt", "bundle.tar"];
    let remote = |name: &str| {
        let validator = match rng.u8(..8) {
            0 => Validator::None,
            1..4 => Validator::Date,
            _ => Validator::Tag,
        };
        let remote = Remote { content: format!("remote {name}\n"), validator, version: 0 };
        (format!("s{seed:x}/{name}"), remote)
    };
    names.map(remote).into()
}

/// An `ONBUILD` trigger.
pub(super) fn trigger(rng: &mut Rng) -> String {
    let triggers = [
        "COPY src /onbuild/",
        "COPY keep.txt /onbuild/keep",
        "COPY . /onbuild/all/",
        "ENV TRIGGERED=yes",
        "RUN echo triggered $A > /triggered",
        "ARG VERSION=of-trigger",
        "ADD *.txt /onbuild/texts/",
    ];
    triggers[rng.usize(..triggers.len())].to_owned()
}

/// Lines of an ignore file that leaves enough for most builds.
pub(super) fn ignore(rng: &mut Rng, tree: &Tree, features: Features) -> Vec<String> {
    let mut lines: Vec<String> =
        (0..rng.usize(..5)).map(|_| ignore_line(rng, tree, features)).collect();
    if rng.u8(..4) > 0 {
        lines.extend(["!keep.txt".to_owned(), "!src/main.c".to_owned()]);
    }
    if rng.u8(..3) == 0 {
        lines.push("Dockerfile*".to_owned());
    }
    lines
}

/// One line of an ignore file.
pub(super) fn ignore_line(rng: &mut Rng, tree: &Tree, features: Features) -> String {
    const PATTERNS: [&str; 30] = [
        "*.md",
        "**/*.md",
        "src/*",
        "src/**",
        "lib",
        "/lib/",
        "data/**",
        "**/sub",
        "*/sub",
        "*/*",
        "docs/*.txt",
        "[a-c]*",
        "**/[!a-c]*",
        "?.txt",
        "# remark",
        "",
        "  *.sh  ",
        ".hidden",
        "*",
        "**",
        "sub/deep",
        "./data",
        "lib/../docs",
        "**/d",
        "aside",
        "*~",
        "src/sub/*",
        "link",
        ".*",
        "**/*.txt",
    ];
    let paths = tree.paths(|_| true);
    let pattern = match rng.u8(..3) {
        0 => paths[rng.usize(..paths.len())].clone(),
        _ => PATTERNS[rng.usize(..PATTERNS.len())].to_owned(),
    };
    let is_file = matches!(tree.get(&pattern), Some(Node::File { .. }));
    match rng.u8(..3) {
        0 if features.exceptions || is_file => format!("!{pattern}"),
        _ => pattern,
    }
}

/// Makes the recipe.
struct Maker<'a> {
    rng: Rng,
    tree: &'a Tree,
    images: &'a BTreeMap<String, Base>,
    contexts: &'a BTreeMap<String, Tree>,
    remotes: &'a BTreeMap<String, Remote>,
    features: Features,
    /// Number of the next file to write, so that each has its own.
    next: usize,
}

impl Maker<'_> {
    fn chance(&mut self, of: u8) -> bool {
        self.rng.u8(..of) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(..of.len())].clone()
    }

    fn number(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    fn image(&mut self, which: &str) -> String {
        let names: Vec<&String> = self.images.keys().filter(|name| name.ends_with(which)).collect();
        format!("@registry@/{}:1", names[0])
    }

    fn recipe(&mut self) -> Recipe {
        let mut globals = Vec::new();
        for name in VARIABLES {
            if self.chance(4) {
                let default = format!("{name}=global{}", self.rng.u8(..10));
                globals.push(Instruction::new("ARG", &[&default]));
            }
        }
        let by_argument = self.chance(4);
        if by_argument {
            let image = self.image("base");
            globals.push(Instruction::new("ARG", &[&format!("BASE={image}")]));
        }
        let mut stages: Vec<Stage> = Vec::new();
        for index in 0..self.pick(&[1, 1, 2, 2, 3, 4]) {
            let named: Vec<usize> = (0..index).filter(|i| stages[*i].name.is_some()).collect();
            let (base, shell) = match self.rng.u8(..6) {
                0 if self.contexts.contains_key(OTHER) && self.rng.bool() => {
                    (OTHER.to_owned(), false)
                }
                0 => ("scratch".to_owned(), false),
                1 if !named.is_empty() => {
                    let stage = self.pick(&named);
                    (format!("@stage{stage}@"), stages[stage].shell)
                }
                2 if by_argument => ("${BASE}".to_owned(), true),
                3 => (format!("--platform=$BUILDPLATFORM {}", self.image("base")), true),
                _ => (self.image("base"), true),
            };
            let name = (!self.chance(4)).then(|| format!("Stage{index}"));
            // In its place there may be a context, which has none.
            let shell = shell && !self.contexts.contains_key(&format!("stage{index}"));
            // A stage can be no more than another name of an image.
            let bare = base != "scratch" && self.chance(10);
            let body = if bare { Vec::new() } else { self.body(index, shell) };
            stages.push(Stage { base, name, body, shell });
        }
        Recipe { globals, stages }
    }

    fn body(&mut self, index: usize, shell: bool) -> Vec<Instruction> {
        let mut body = vec![Instruction::new("COPY", &["keep.txt", "/out/"])];
        for _ in 0..self.rng.usize(1..7) {
            let instruction = match self.rng.u8(..16) {
                0..5 => self.copy(index),
                5..9 if shell => self.run(index),
                9 | 10 => self.argument(),
                11 | 12 => self.environment(),
                13 => self.add(),
                _ => self.setting(),
            };
            body.push(instruction);
        }
        if self.chance(6) {
            body.push(Instruction::new("USER", &["1000:1000"]));
        }
        body
    }

    /// A source in the context.
    fn source(&mut self) -> String {
        self.source_of(self.tree)
    }

    /// A source in a context.
    fn source_of(&mut self, tree: &Tree) -> String {
        const PATTERNS: [&str; 14] = [
            "*.txt",
            "*",
            "src/*",
            "s?c",
            "[k-s]*",
            "src/*.c",
            "./src/",
            "/keep.txt",
            ".",
            "lib/../src",
            "*/*.txt",
            "src/su*/e.txt",
            "[!a-j]*",
            "link*",
        ];
        match self.rng.u8(..3) {
            0 => PATTERNS[self.rng.usize(..PATTERNS.len())].to_owned(),
            _ => {
                let paths = tree.paths(|_| true);
                // Wildcards in names are escaped, but for a few that are to be wildcards.
                let path = self.pick(&paths);
                if self.chance(4) { path } else { path.replace('[', "[[]") }
            }
        }
    }

    fn destination(&mut self) -> String {
        let number = self.number();
        let file = format!("/out/f{number}");
        let directory = format!("/d{number}/");
        self.pick(&[
            file,
            directory.clone(),
            "/out/".to_owned(),
            "./here/".to_owned(),
            format!("{directory}${{DEST:-x}}/"),
            "/out/$A/".to_owned(),
        ])
    }

    fn copy(&mut self, index: usize) -> Instruction {
        if self.features.heredoc && self.chance(6) {
            let number = self.number();
            let mark = self.pick(&["<<EOF", "<<\"EOF\""]);
            let to = format!("/out/here{number}");
            return Instruction::new("COPY", &[mark, &to]).body("text of $A\n # no remark\n");
        }
        let mut copy = Instruction::new("COPY", &[]);
        match self.rng.u8(..6) {
            5 if self.contexts.contains_key(OTHER) => {
                copy.flags.push(format!("--from={OTHER}"));
                copy.words.push(self.source_of(&self.contexts[OTHER]));
            }
            0 if index > 0 => {
                let from = self.rng.usize(..index);
                copy.flags.push(format!("--from=@stage{from}@"));
                copy.words.push(self.pick(&["/out", "/out/*", "/out/keep.txt"]).to_owned());
            }
            1 => {
                copy.flags.push(format!("--from={}", self.image("tools")));
                copy.words.push("/etc/image.txt".to_owned());
            }
            _ => {
                for _ in 0..self.rng.usize(1..=2) {
                    copy.words.push(self.source());
                }
            }
        }
        let mut to = self.destination();
        if copy.words.len() > 1 && !to.ends_with('/') {
            to.push('/');
        }
        copy.words.push(to);
        if self.chance(5) {
            copy.flags.push(self.pick(&["--chmod=0600", "--chmod=755", "--chmod=0444"]).to_owned());
        }
        if self.chance(5) {
            copy.flags.push(self.pick(&["--chown=1:2", "--chown=7", "--chown=0:5"]).to_owned());
        }
        if self.features.link && self.chance(6) {
            copy.flags.push("--link".to_owned());
        }
        if self.features.exclude && self.chance(6) {
            let pattern = self.pick(&["*.txt", "**/*.md", "sub", "main.c"]);
            copy.flags.push(format!("--exclude={pattern}"));
        }
        if self.features.parents && self.chance(6) {
            copy.flags.push("--parents".to_owned());
        }
        in_json_where_needed(copy)
    }

    fn add(&mut self) -> Instruction {
        let to = format!("/added{}/", self.number());
        if self.chance(2) {
            let paths: Vec<&String> = self.remotes.keys().collect();
            let path = self.pick(&paths);
            let url = format!("http://@site@/{path}");
            let to = self.pick(&[to.clone(), format!("{to}name")]);
            let add = Instruction::new("ADD", &[&url, &to]);
            return match self.rng.u8(..4) {
                0 if self.features.checksum => {
                    let digest = sha256(self.remotes[path].content.as_bytes());
                    add.flag(format!("--checksum={digest}"))
                }
                1 => add.flag("--chown=3:4"),
                _ => add,
            };
        }
        let source = if self.tree.get("bundle.tar").is_some() {
            "bundle.tar".to_owned()
        } else {
            self.source()
        };
        in_json_where_needed(Instruction::new("ADD", &[&source, &to]))
    }

    fn run(&mut self, index: usize) -> Instruction {
        let number = self.number();
        // Everything that can be seen of a directory but times.
        let list = |of: &str| {
            format!(
                "cd {of} && {{ find . -exec stat -c '%n %a %F' {{}} + | sort; find . -type l -exec \
                 readlink {{}} + | sort; find . -type f -exec sha256sum {{}} + | sort; }} > /tmp/l && \
                 mv /tmp/l /out/list{number}"
            )
        };
        match self.rng.u8(..14) {
            12 => self.with_secret(number),
            13 if self.contexts.contains_key(OTHER) => Instruction::new("RUN", &[&list("/m")])
                .flag(self.pick(&[
                    format!("--mount=from={OTHER},target=/m"),
                    format!("--mount=type=bind,from={OTHER},source=src,target=/m"),
                ])),
            0 => {
                let source = self.tree.paths(|node| !matches!(node, Node::Link(_)));
                let plain = |path: &String| {
                    path.bytes().all(|b| b.is_ascii_alphanumeric() || b"./-".contains(&b))
                };
                let source: Vec<String> = source.into_iter().filter(plain).collect();
                let source = self.pick(&source);
                let of = if self.tree.get(&source) == Some(&Node::Directory) { "/m" } else { "/" };
                let command = match of {
                    "/m" => list(of),
                    _ => format!("cat /m > /out/cat{number}"),
                };
                Instruction::new("RUN", &[&command])
                    .flag(format!("--mount=type=bind,source={source},target=/m"))
            }
            1 => Instruction::new("RUN", &[&list("/m")]).flag("--mount=type=bind,target=/m"),
            2 if self.features.patterns => Instruction::new("RUN", &[&list("/m")])
                .flag("--mount=type=bind,source=${who:-src},target=/m"),
            2 => Instruction::new("RUN", &[&list("/m")]).flag("--mount=target=/m,source=src"),
            3 if index > 0 => {
                let from = self.rng.usize(..index);
                let flag = format!("--mount=type=bind,from=@stage{from}@,source=/out,target=/m");
                Instruction::new("RUN", &[&list("/m")]).flag(flag)
            }
            4 => {
                let from = self.image("tools");
                let flag = format!("--mount=from={from},source=/etc,target=/m");
                Instruction::new("RUN", &[&format!("cat /m/image.txt > /out/image{number}")])
                    .flag(flag)
            }
            5 => Instruction::new("RUN", &[&format!("echo c > /c/f && cp /c/f /out/c{number}")])
                .flag("--mount=type=cache,target=/c"),
            6 => Instruction::new("RUN", &[&format!("echo t > /t/f && cp /t/f /out/t{number}")])
                .flag("--mount=type=tmpfs,target=/t"),
            7 => {
                let command =
                    format!("[\"/bin/sh\", \"-c\", \"echo $A ${{B:-b}} > /out/e{number}\"]");
                Instruction::new("RUN", &[&command])
            }
            8 if self.features.heredoc => {
                let mark = self.pick(&["<<EOF", "<<\"EOF\""]);
                let body = format!("echo here $A > /out/h{number}\npwd >> /out/h{number}\n");
                Instruction::new("RUN", &[mark]).body(body)
            }
            9 => {
                let variable = self.pick(&PRINTED);
                Instruction::new("RUN", &[&format!("echo \"${variable}\" > /out/v{number}")])
            }
            10 => Instruction::new("RUN", &[&list("/out")]),
            _ => {
                // What the engine adds of its own, and proxies, which are the machine's and not the
                // image's: BuildKit leaves them out of its own keys too.
                let theirs = "-e ^HOSTNAME= -e ^OTEL_ -e ^TRACEPARENT= -e _proxy=";
                let command = format!("env | grep -iv {theirs} | sort > /out/env{number}");
                Instruction::new("RUN", &[&command])
            }
        }
    }

    /// A step that mounts a secret, and leaves nothing of it in the image but that it was there.
    fn with_secret(&mut self, number: usize) -> Instruction {
        let id = self.pick(&SECRETS);
        let flag = self.pick(&[
            format!("--mount=type=secret,id={id},target=/s"),
            format!("--mount=type=secret,id={id},required,target=/s"),
            format!("--mount=type=secret,id={id},required=true,target=/s,mode=0444"),
        ]);
        let command = self.pick(&[
            "cat /s | wc -l > /dev/null".to_owned(),
            format!("if [ -e /s ]; then echo given; else echo none; fi > /out/secret{number}"),
        ]);
        Instruction::new("RUN", &[&command]).flag(flag)
    }

    fn argument(&mut self) -> Instruction {
        let name = self.pick(&VARIABLES);
        let word = match self.rng.u8(..5) {
            0 => format!("{name}=default{}", self.rng.u8(..10)),
            1 => format!("{name}=of-${{B:-b}}"),
            2 => {
                let names = ["TARGETARCH", "HTTP_PROXY=x", "HTTP_PROXY", "TARGETSTAGE", "BUILDOS"];
                self.pick(&names).to_owned()
            }
            _ => name.to_owned(),
        };
        Instruction::new("ARG", &[&word])
    }

    fn environment(&mut self) -> Instruction {
        let (name, other) = (self.pick(&VARIABLES), self.pick(&VARIABLES));
        let value = match self.rng.u8(..8) {
            0 => format!("{name}=${other}"),
            1 => format!("{name}=${{{other}:-none}}"),
            2 => format!("{name}=${{{other}:+some}}x"),
            3 => format!("{name}=\"two words ${{{other}}}\""),
            4 => format!("{name}='single ${other}'"),
            5 => format!("{name}=\\${other}"),
            6 if self.features.patterns => format!("{name}=${{{other}#g*}}"),
            _ => format!("{name}=plain{}", self.rng.u8(..10)),
        };
        match self.rng.u8(..4) {
            0 => Instruction::new("ENV", &[&value, "EXTRA=\"e f\""]),
            1 => Instruction::new("ENV", &[&format!("{name} old form ${other}")]),
            _ => Instruction::new("ENV", &[&value]),
        }
    }

    fn setting(&mut self) -> Instruction {
        let variable = self.pick(&VARIABLES);
        match self.rng.u8(..12) {
            10 => Instruction::new("SHELL", &["[\"/bin/sh\", \"-ec\"]"]),
            0 => Instruction::new("WORKDIR", &["/work"]),
            1 => Instruction::new("WORKDIR", &[&format!("below/${{{variable}:-none}}")]),
            2 => Instruction::new("LABEL", &[&format!("v=${variable}"), "\"two words\"='x y'"]),
            3 => Instruction::new(
                "EXPOSE",
                &["80/tcp", &format!("${{PORT:-8{}}}", self.rng.u8(10..99))],
            ),
            4 => Instruction::new("CMD", &[&format!("echo ${variable} {}", self.rng.u8(..9))]),
            5 => Instruction::new("CMD", &["[\"echo\", \"a b\", \"$A\"]"]),
            6 => Instruction::new("ENTRYPOINT", &["[\"/bin/sh\",   \"-c\"]"]),
            7 => Instruction::new("VOLUME", &[&format!("/vol/${{{variable}:-v}}")]),
            8 => Instruction::new("STOPSIGNAL", &[self.pick(&["SIGINT", "9"])]),
            9 => Instruction::new("HEALTHCHECK", &["CMD true"]).flag("--interval=5s"),
            _ => Instruction::new("ONBUILD", &[&format!("ENV LATER=${variable}")]),
        }
    }
}

/// Writes the arguments of a `COPY` as JSON where a name has something in it that words cannot.
fn in_json_where_needed(mut copy: Instruction) -> Instruction {
    let odd = |word: &String| word.contains([' ', '#', '"']) || word.starts_with('-');
    if copy.words.iter().any(odd) {
        let words = std::mem::take(&mut copy.words);
        copy.words = vec![serde_json::to_string(&words).unwrap()];
    }
    copy
}
