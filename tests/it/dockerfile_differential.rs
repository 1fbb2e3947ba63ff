//! What we read in a Dockerfile against what the engine does with it.
//!
//! Dockerfiles are made at random; `SMARTBUILD_SEED=<number>` makes the same ones again, and
//! `SMARTBUILD_ROUNDS=<number>` makes more of them.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use smartbuild::{
    context::{self, Ignore, Options, Tree, scan},
    credentials::Anonymous,
    dockerfile::{self, ErrorKind, Feature, ReadKind, Request, Slice},
    engine::{BuildError, BuildRequest, Context, Endpoint, Engine, Progress},
    platform::Platform,
};
use smartbuild_test_rig::{self as rig, Registry, Work, unique};

struct Silent;

impl Progress for Silent {
    fn event(&self, _: smartbuild::engine::Event) {}
}

/// `SplitMix64`: small, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    /// From `SMARTBUILD_SEED`, else from the clock; printed either way.
    pub(crate) fn seeded() -> Self {
        let seed = number("SMARTBUILD_SEED").unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.unwrap().as_secs()
        });
        #[expect(clippy::print_stdout, reason = "it is seen only where a test fails")]
        {
            println!("SMARTBUILD_SEED={seed}");
        }
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    pub(crate) fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn text(&mut self, choices: &[&str], most: usize) -> String {
        (0..self.below(most + 1)).map(|_| self.of(choices)).collect()
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap())
}

pub(crate) fn rounds(usual: u64) -> u64 {
    number("SMARTBUILD_ROUNDS").unwrap_or(usual)
}

async fn engine() -> Engine {
    let endpoint = Endpoint::parse(rig::Engine::get().host(), "the rig", None).unwrap();
    Engine::connect(&endpoint).await.unwrap()
}

/// An image that is removed when the test is over.
struct Image(String);

impl Image {
    fn new() -> Self {
        Self(format!("{}:1", unique("differential")))
    }

    fn config(&self) -> serde_json::Value {
        let inspect = ["image", "inspect", "--format", "{{json .Config}}", &self.0];
        Work::new().run(rig::Engine::get().docker(inspect)).success().json()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        rig::Engine::get().forget(&self.0);
    }
}

fn request(build_args: BTreeMap<String, String>) -> Request {
    Request { build_args, ..Request::new(Platform::host()) }
}

fn slice(text: &str, request: &Request) -> Result<Slice, dockerfile::Error> {
    let file = dockerfile::parse(text.as_bytes())?;
    let bases = file.images(request)?.into_iter().map(|found| (found.key, Default::default()));
    file.slice(request, &bases.collect())
}

/// The instructions of the target in canonical form.
fn instructions(slice: &Slice) -> Vec<&str> {
    let target = slice.stages.last().unwrap();
    target.instructions.iter().map(|instruction| instruction.text.as_str()).collect()
}

/// All `name=value` of the instructions of this name; a later one hides an earlier one.
fn pairs(slice: &Slice, name: &str) -> BTreeMap<String, String> {
    let instructions = slice.stages.iter().flat_map(|stage| &stage.instructions);
    let mut pairs = BTreeMap::new();
    for mut rest in instructions.filter_map(|found| found.text.strip_prefix(name)) {
        while !rest.is_empty() {
            let (key, value);
            (key, rest) = first(rest, '=');
            (value, rest) = first(rest, ' ');
            pairs.insert(key, value);
        }
    }
    pairs
}

/// The first word of a canonical text, and what follows the character that ends it.
fn first(text: &str, end: char) -> (String, &str) {
    if !text.starts_with('"') {
        let (word, rest) = text.split_once(end).unwrap_or((text, ""));
        return (word.to_owned(), rest);
    }
    let mut words = serde_json::Deserializer::from_str(text).into_iter();
    let word = words.next().unwrap().unwrap();
    (word, text[words.byte_offset()..].strip_prefix(end).unwrap_or_default())
}

fn decoded(word: &str) -> String {
    first(word, '\0').0
}

const WORDS: [&str; 44] = [
    "$",
    "$A",
    "$B",
    "${A",
    "${B",
    "${C",
    "${E",
    "}",
    "}",
    "}",
    ":-",
    "-",
    ":+",
    "+",
    "?",
    ":?",
    "'",
    "\"",
    "\\",
    "\\\\",
    "a",
    "b",
    ".",
    "é",
    " ",
    "  ",
    "=",
    ":",
    ",",
    "/",
    "<",
    "1",
    "_",
    "@",
    "{",
    "$$",
    "[",
    "*",
    "#",
    "x",
    "${A:-",
    "${E:+",
    "\\$",
    "$TARGETARCH",
];

/// Every word is expanded where the engine is expected to take it; a sample of the others is built
/// one by one, to be refused.
#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn words_and_scopes_are_those_of_the_engine() {
    let (mut random, engine, work) = (Random::seeded(), engine().await, Work::new());
    let (mut words, mut refused) = (0, 0);
    for _ in 0..rounds(8) {
        let mut arguments = BTreeMap::new();
        for name in ["A", "C", "G"] {
            if random.below(3) == 0 {
                arguments.insert(name.to_owned(), random.text(&["a", "$B", " ", "'", "\\"], 3));
            }
        }
        let asked = request(arguments.clone());
        let escape = random.of(&["", "", "# escape=`\n"]);
        let mut text = format!("{escape}ARG G=global A=g\nFROM scratch AS s0\n");
        let mut bad = Vec::new();
        for index in 0..60 {
            let word = random.text(&WORDS, 6);
            let statement = match random.below(12) {
                0 => format!("ARG {}={word}\n", random.of(&["A", "B", "C"])),
                1 => format!("ARG {}\n", random.of(&["A", "B", "C", "G", "TARGETARCH"])),
                2 | 3 => format!("ENV {}={word}\n", random.of(&["A", "B", "C", "E"])),
                4 => format!("ENV {} {word}\n", random.of(&["A", "B"])),
                5 => format!(
                    "FROM s{} AS s{}\n",
                    text.matches("FROM").count() - 1,
                    text.matches("FROM").count()
                ),
                _ => format!("LABEL l{index}={word}\n"),
            };
            // Old engines know these modifiers with a colon only.
            if ["-", "+", "?"].iter().any(|modifier| {
                ["A", "B", "C", "E"]
                    .iter()
                    .any(|name| word.contains(&format!("{{{name}{modifier}")))
            }) {
                continue;
            }
            let longer = format!("{text}{statement}");
            // Old engines expand a default that an argument overrides, and fail where it is wrong.
            let plain = slice(&longer, &request(BTreeMap::new()));
            // A `FROM` that a line before it swallowed leaves the next one with the name of an image.
            let fits = |slice: &Slice| {
                slice.images.is_empty() && !slice.features.contains(&Feature::Patterns)
            };
            match slice(&longer, &asked) {
                Ok(slice) if plain.is_ok() && fits(&slice) => text = longer,
                Err(error) if error.kind() == ErrorKind::Invalid => bad.push(longer),
                _ => {}
            }
        }
        println!("{text}{arguments:?}");
        let image = Image::new();
        build(&engine, &work, &text, &arguments, Some(&image)).await.unwrap();
        let config = image.config();
        let ours = slice(&text, &asked).unwrap();

        let labels: BTreeMap<String, String> =
            serde_json::from_value(config["Labels"].clone()).unwrap_or_default();
        assert_eq!(pairs(&ours, "LABEL "), labels);
        let mut environment: BTreeMap<String, String> = BTreeMap::new();
        for variable in config["Env"].as_array().unwrap() {
            let (name, value) = variable.as_str().unwrap().split_once('=').unwrap();
            environment.insert(name.to_owned(), value.to_owned());
        }
        let path = environment.remove("PATH");
        assert!(path.is_some());
        assert_eq!(pairs(&ours, "ENV "), environment);
        words += labels.len();

        if let Some(bad) = bad.first() {
            let built = build(&engine, &work, bad, &arguments, None).await;
            assert!(built.is_err(), "the engine takes what we refuse:\n{bad}");
            refused += 1;
        }
    }
    assert!(words > 20 && refused > 0, "{words} words, {refused} refused");
}

/// Lines that are continued, comments between them, blanks, and the escape directive.
#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn lines_are_joined_as_the_engine_joins_them() {
    let (mut random, engine, work) = (Random::seeded(), engine().await, Work::new());
    let pieces = [
        "a",
        "b c",
        "&&",
        " ",
        "  ",
        "\t",
        "$X",
        "'q'",
        "\"r\"",
        "#x",
        "\\\\",
        "`",
        "\\\n",
        " \\\n  ",
        " \\  \n\t",
        "\\\n# comment\n",
        "\\\n  # comment \\\n ",
        "\\\n\n",
        "`\n",
        "\\\r\n",
        "[\"a\"]",
    ];
    for _ in 0..rounds(8) {
        let escape = random.of(&["", "# escape=`\n", "# a comment\n# escape=`\n"]);
        let mut text = format!("{escape}FROM scratch\n");
        for name in
            ["cmd", "Entrypoint", "USER", "LABEL l=1", "ONBUILD run", "volume", "ONBUILD COPY"]
        {
            let statement = format!("{name} x{}\n", random.text(&pieces, 8));
            let longer = format!("{text}{statement}");
            if slice(&longer, &request(BTreeMap::new())).is_ok() {
                text = longer;
            }
        }
        println!("{text}");
        let image = Image::new();
        build(&engine, &work, &text, &BTreeMap::new(), Some(&image)).await.unwrap();
        let config = image.config();
        let ours = slice(&text, &request(BTreeMap::new())).unwrap();
        let find = |name: &str| -> Vec<String> {
            let lines = instructions(&ours).into_iter().filter_map(|line| line.strip_prefix(name));
            lines.map(str::to_owned).collect()
        };
        for (name, field) in [("CMD ", "Cmd"), ("ENTRYPOINT ", "Entrypoint")] {
            let shell = find(name).first().map(|text| ["/bin/sh", "-c", text].join("\0"));
            let theirs = config[field].as_array().map(|words| {
                words.iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join("\0")
            });
            assert_eq!(shell, theirs, "{field}");
        }
        let user = find("USER ").first().map(|user| decoded(user)).unwrap_or_default();
        assert_eq!(user, config["User"].as_str().unwrap_or_default());
        let triggers: Vec<String> = find("ONBUILD ").iter().map(|text| decoded(text)).collect();
        let theirs: Vec<String> =
            serde_json::from_value(config["OnBuild"].clone()).unwrap_or_default();
        assert_eq!(triggers, theirs);
    }
}

/// The engine makes the same files of what the slice selects as of the whole context.
#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn what_a_slice_reads_is_enough_for_the_engine() {
    let (mut random, engine) = (Random::seeded(), engine().await);
    let (registry, work) = (Registry::open(), Work::new());
    let base = registry.push_base();
    for path in [
        "a",
        "b.txt",
        "c d",
        "dir/a",
        "dir/b.txt",
        "dir/sub/c",
        "dir/sub/d.txt",
        "other/a",
        "x*y/z",
        "dir/.hidden",
        "[k]/v",
    ] {
        work.write(path, unique(path));
    }
    work.symlink("dir", "link").symlink("/dir/sub", "absolute").symlink("../../a", "dir/up");
    let sources = [
        "a",
        "./a",
        "/a",
        "../a",
        "dir",
        "dir/",
        "./dir/.",
        "dir/../a",
        "*",
        "*.txt",
        "d?r",
        "[a-b]*",
        "dir/*",
        "dir/s*",
        "link",
        "link/",
        "link/sub",
        "link/*.txt",
        "absolute",
        "absolute/c",
        "dir/up",
        "x\\*y",
        // Not `*/*`: a link behind a directory that a wildcard found is not followed by the engine's own
        // client either, so that less is sent than there is (`soundness::clients`).
        "*/a",
        "$D",
        "${D}/sub",
        "dir//sub///c",
        ".",
        "[[]k]/v",
        "lin?/a",
        "missing",
        "b.txt dir/a",
        "[\"c d\", \"a\", ",
    ];
    let (mut built, mut selected) = (0, 0);
    let mut round = 0;
    // Many fail, as they should: it goes on until there were some that did not.
    while round < rounds(6) || built < 2 || selected < 1 {
        assert!(round < 20 * rounds(6), "{built} built, {selected} of them from less than all");
        round += 1;
        let mut text = format!("FROM {base} AS first\nARG D=dir\n");
        for line in 0..1 + random.below(3) {
            let source = random.of(&sources);
            let (end, name) = if source.starts_with('[') && source.ends_with(' ') {
                (format!("\"/out/{line}/\"]"), "COPY")
            } else {
                (format!(" /out/{line}/"), random.of(&["COPY", "COPY", "ADD", "COPY --link"]))
            };
            writeln!(text, "{name} {source}{end}").unwrap();
        }
        if random.below(2) == 0 {
            let source = random.of(&["", ",source=dir", ",source=link/sub", ",src=./dir/../a"]);
            writeln!(text, "RUN --mount=target=/m{source} mkdir -p /out && cp -a /m /out/m")
                .unwrap();
        }
        if random.below(3) == 0 {
            writeln!(text, "FROM {base}\nCOPY --from=first /out /out\nCOPY other /out/other")
                .unwrap();
        }
        println!("{text}");
        let ours = slice(&text, &request(BTreeMap::new())).unwrap();
        let reads: Vec<context::Read> =
            ours.reads.iter().flat_map(|read| context_reads(&read.kind)).collect();
        let some = tree(&work, &reads);
        let all = tree(&work, &[context::Read::All]);
        let outcomes =
            [files(&engine, &work, &text, &all).await, files(&engine, &work, &text, &some).await];
        assert_eq!(outcomes[0], outcomes[1], "of all, and of the selected");
        if outcomes[0].is_some() {
            built += 1;
            selected += usize::from(some.len() < all.len());
        }
    }
}

fn context_reads(kind: &ReadKind) -> Vec<context::Read> {
    match kind {
        ReadKind::All => vec![context::Read::All],
        ReadKind::Bind { source } => vec![context::Read::Bind { source: source.clone().into() }],
        ReadKind::Copy { sources, parents, exclude } => sources
            .iter()
            .map(|source| context::Read::Copy {
                source: source.clone().into(),
                parents: *parents,
                exclude: exclude.iter().map(|pattern| pattern.clone().into()).collect(),
            })
            .collect(),
    }
}

fn tree(work: &Work, reads: &[context::Read]) -> Arc<Tree> {
    Arc::new(scan(&work.path(), &Ignore::none(), reads, &Options::default()).unwrap())
}

/// The files that a build leaves in `/out`; `None` if it failed.
async fn files(engine: &Engine, work: &Work, text: &str, tree: &Arc<Tree>) -> Option<String> {
    let image = Image::new();
    let context = Context { root: work.path(), tree: Arc::clone(tree) };
    let mut request = BuildRequest::new(text.into(), context, Arc::new(Anonymous));
    request.tags = vec![image.0.parse().unwrap()];
    request.no_cache = true;
    engine.build(&request, &Silent).await.ok()?;
    let list = "cd /out || exit 0; find . | sort | while read -r f; do \
                stat -c '%A %N' \"$f\"; [ ! -f \"$f\" ] || md5sum < \"$f\"; done";
    let ran = rig::Engine::get().run(&image.0, &["sh", "-c", list]).success();
    Some(ran.stdout().to_owned())
}

async fn build(
    engine: &Engine,
    work: &Work,
    text: &str,
    arguments: &BTreeMap<String, String>,
    image: Option<&Image>,
) -> Result<(), BuildError> {
    let context = Context { root: work.path(), tree: Arc::default() };
    let mut request = BuildRequest::new(text.into(), context, Arc::new(Anonymous));
    request.build_args = arguments.clone();
    request.tags = image.iter().map(|image| image.0.parse().unwrap()).collect();
    engine.build(&request, &Silent).await.map(drop)
}
