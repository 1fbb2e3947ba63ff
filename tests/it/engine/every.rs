//! What holds for every builder: BuildKit, the classic one, podman's, and buildah.

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use smartbuild::engine::{BuildError, Endpoint, Engine, Event, Progress};
use smartbuild_test_rig::{self as rig, Registry, Work, unique};

use super::{
    Heard, One, context, lines::a_step_that_fails_is_found_on_its_line, reference, request,
};

/// Makes a test of every function for every builder.
macro_rules! for_every_builder {
    ($($name:ident)*) => {
        mod buildkit {
            $(
                #[tokio::test]
                #[ignore = "needs an engine: run tests/run.sh"]
                async fn $name() {
                    super::$name(|_| super::Builder::docker(true)).await;
                }
            )*
        }
        mod classic {
            $(
                #[tokio::test]
                #[ignore = "needs an engine: run tests/run.sh"]
                async fn $name() {
                    super::$name(|_| super::Builder::docker(false)).await;
                }
            )*
        }
        mod podman {
            $(
                #[tokio::test]
                #[ignore = "needs podman: run tests/run.sh"]
                async fn $name() {
                    super::$name(super::Builder::podman).await;
                }
            )*
        }
        mod buildah {
            $(
                #[tokio::test]
                #[ignore = "needs buildah: run tests/run.sh"]
                async fn $name() {
                    super::$name(|_| super::Builder::Buildah).await;
                }
            )*
        }
    };
}

for_every_builder! {
    what_is_served_is_what_is_built
    the_served_dockerfile_is_not_copied_and_the_contexts_own_is
    a_file_that_changes_after_it_was_hashed_fails_the_build
    a_file_that_grows_while_it_is_sent_is_not_built_as_something_else
    a_name_that_is_not_unicode_is_built_or_refused
    a_step_that_fails_says_which_and_shows_all_it_wrote
    a_step_that_fails_is_found_on_its_line
    a_dockerfile_that_is_wrong_says_what_is
    arguments_targets_and_settings_reach_the_build
    bases_of_a_closed_registry_are_built_upon_with_its_login
    dropping_a_build_cancels_it_in_the_engine
}

/// An engine, to be connected with.
pub(super) enum Builder {
    Docker { buildkit: bool },
    Podman(Podman),
    Buildah,
}

impl Builder {
    fn docker(buildkit: bool) -> Self {
        Self::Docker { buildkit }
    }

    /// podman's service, which is told that these registries are not encrypted.
    fn podman(registries: &[&Registry]) -> Self {
        Self::Podman(Podman::start(registries))
    }

    pub(super) async fn engine(&self) -> Engine {
        let connect = async |host: &str| {
            let endpoint = Endpoint::parse(host, "the test", None).unwrap();
            Engine::connect(&endpoint).await.unwrap()
        };
        match self {
            Self::Docker { buildkit: true } => connect(rig::Engine::get().host()).await,
            Self::Docker { buildkit: false } => {
                connect(rig::Engine::get().host()).await.without_buildkit()
            }
            Self::Podman(podman) => {
                connect(&format!("unix://{}", podman.work.join("sock").display())).await
            }
            Self::Buildah => Engine::buildah(&[]).await.unwrap(),
        }
    }
}

/// podman's service, with a store of its own.
pub(super) struct Podman {
    work: Work,
    service: Child,
}

impl Podman {
    fn start(registries: &[&Registry]) -> Self {
        let work = Work::new();
        let open = |registry: &&Registry| {
            format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.host())
        };
        work.write("registries.conf", registries.iter().map(open).collect::<String>());
        let service = Command::new("podman")
            .args(["--root", work.join("root").to_str().unwrap()])
            .args(["--runroot", work.join("run").to_str().unwrap()])
            .args(["system", "service", "--time", "0"])
            .arg(format!("unix://{}", work.join("sock").display()))
            .env("CONTAINERS_REGISTRIES_CONF", work.join("registries.conf"))
            .env("TMPDIR", work.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::os::unix::net::UnixStream::connect(work.join("sock")).is_err() {
            assert!(Instant::now() < deadline, "podman does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { work, service }
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.service.kill();
        let _ = self.service.wait();
        // The store's driver mounts its directory upon itself.
        let store = self.work.join("root/overlay");
        let _ = Command::new("umount").arg("--recursive").arg(store).status();
    }
}

async fn what_is_served_is_what_is_built(start: impl Fn(&[&Registry]) -> Builder) {
    let (work, registry) = (Work::new(), Registry::open());
    let builder = start(&[&registry]);
    let long = "long-name/".repeat(20) + "file";
    work.write("plain", "plain\n")
        .write("script", "#!/bin/sh\n")
        .chmod("script", 0o750)
        .write("private", "x")
        .chmod("private", 0o600)
        .write("directory/deep/file", vec![b'x'; 100_000])
        .write("directory/empty", "")
        .write("directory-1/file", "after the directory in walk order")
        .write("a b\u{e4}%&=+", "a name with everything")
        .write(&long, "a name too long for the first tar")
        .symlink("plain", "link")
        .symlink("/nowhere", "dangling");
    let dockerfile = format!(
        "FROM {}\nCOPY . /c\nRUN cd /c && find . -exec stat -c '%N %a %u:%g %s' {{}} + && cat a* && echo\n",
        registry.push_base()
    );
    let mut request = request(&work, &dockerfile);
    request.no_cache = true;
    let heard = Heard::default();
    let engine = builder.engine().await;
    let id = engine.build(&request, &heard).await.unwrap();
    let log = heard.log("RUN").replace('\'', "");
    for line in [
        "./plain 644 0:0 6",
        "./script 755 0:0 10",
        "./private 644 0:0 1",
        "./directory/deep/file 644 0:0 100000",
        "./directory/empty 644 0:0 0",
        "./directory-1/file 644 0:0 33",
        "./a b\u{e4}%&=+ 644 0:0 22",
        &format!("./{long} 644 0:0 33"),
        "./link -> plain 777 0:0 5",
        "./dangling -> /nowhere 777 0:0 8",
        "a name with everything",
    ] {
        assert!(log.lines().any(|found| found == line), "{line} in:\n{log}");
    }
    engine.remove(&id.to_string()).await.unwrap();
}

async fn the_served_dockerfile_is_not_copied_and_the_contexts_own_is(
    start: impl Fn(&[&Registry]) -> Builder,
) {
    let (work, registry) = (Work::new(), Registry::open());
    let builder = start(&[&registry]);
    work.write("Dockerfile", "the one on disk\n").write("file", "x");
    let dockerfile =
        format!("FROM {}\nCOPY . /c\nRUN cat /c/Dockerfile && ls -A /c\n", registry.push_base());
    let mut request = request(&work, &dockerfile);
    request.no_cache = true;
    let heard = Heard::default();
    let engine = builder.engine().await;
    let id = engine.build(&request, &heard).await.unwrap();
    assert_eq!(heard.log("RUN"), "the one on disk\nDockerfile\nfile\n");
    engine.remove(&id.to_string()).await.unwrap();

    // And where the one on disk is the one that is meant, it is there too.
    work.write("Dockerfile", &dockerfile);
    request.context = context(&work);
    let heard = Heard::default();
    let id = engine.build(&request, &heard).await.unwrap();
    assert_eq!(heard.log("RUN"), format!("{dockerfile}Dockerfile\nfile\n"));
    engine.remove(&id.to_string()).await.unwrap();
}

async fn a_file_that_changes_after_it_was_hashed_fails_the_build(
    start: impl Fn(&[&Registry]) -> Builder,
) {
    let (work, builder) = (Work::new(), start(&[]));
    let engine = builder.engine().await;
    let name = format!("{}:1", unique("changed"));
    for change in [Some("other content"), Some("longer than it was"), None] {
        work.write("a", "first content").write("b", "x");
        let mut request = request(&work, "FROM scratch\nCOPY . /\n");
        request.tags = vec![reference(&name)];
        match change {
            Some(content) => work.write("a", content),
            None => work.remove("a"),
        };
        let error = engine.build(&request, &Heard::default()).await.unwrap_err();
        let BuildError::ContextChanged(changed) = &error else { panic!("{change:?}: {error:?}") };
        assert_eq!(changed.path.to_str(), Some("a"));
        assert!(error.is_of_the_build());
        assert_eq!(engine.inspect(&name).await.unwrap(), None);
    }
}

async fn a_file_that_grows_while_it_is_sent_is_not_built_as_something_else(
    start: impl Fn(&[&Registry]) -> Builder,
) {
    use std::io::Write as _;
    let (work, registry) = (Work::new(), Registry::open());
    let builder = start(&[&registry]);
    let engine = builder.engine().await;
    let base = registry.push_base();
    for _ in 0..3 {
        let content = unique("content").repeat(100_000);
        work.write("log", &content);
        let dockerfile = format!("FROM {base}\nCOPY log /\nRUN wc -c < /log\n");
        let mut request = request(&work, &dockerfile);
        request.no_cache = true;
        let (ended, growing) = std::sync::mpsc::channel::<()>();
        let mut file = std::fs::File::options().append(true).open(work.join("log")).unwrap();
        let writer = std::thread::spawn(move || {
            while growing.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                file.write_all(b"one more line\n").unwrap();
                std::thread::yield_now();
            }
        });
        let heard = Heard::default();
        let built = engine.build(&request, &heard).await;
        drop(ended);
        writer.join().unwrap();
        match built {
            Ok(id) => {
                assert_eq!(heard.log("RUN").trim(), content.len().to_string());
                engine.remove(&id.to_string()).await.unwrap();
            }
            Err(BuildError::ContextChanged(changed)) => {
                assert_eq!(changed.path.to_str(), Some("log"));
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

async fn a_name_that_is_not_unicode_is_built_or_refused(start: impl Fn(&[&Registry]) -> Builder) {
    use std::os::unix::ffi::OsStrExt as _;
    let (work, registry) = (Work::new(), Registry::open());
    let builder = start(&[&registry]);
    work.write(std::ffi::OsStr::from_bytes(b"caf\xe9"), "x");
    let dockerfile = format!(
        "FROM {}\nCOPY . /c\nRUN cd /c && printf %s * | od -An -tx1\n",
        registry.push_base()
    );
    let mut request = request(&work, &dockerfile);
    request.no_cache = true;
    let (engine, heard) = (builder.engine().await, Heard::default());
    match engine.build(&request, &heard).await {
        Ok(id) => {
            assert_eq!(heard.log("RUN").trim(), "63 61 66 e9");
            engine.remove(&id.to_string()).await.unwrap();
        }
        // Its protocol carries Unicode only, and it says so.
        Err(error @ BuildError::Unsupported { .. }) => {
            assert!(matches!(builder, Builder::Docker { buildkit: true }), "{error}");
            assert!(error.to_string().contains("caf"), "{error}");
        }
        Err(error) => panic!("{error:?}"),
    }
}

async fn a_step_that_fails_says_which_and_shows_all_it_wrote(
    start: impl Fn(&[&Registry]) -> Builder,
) {
    let (work, registry) = (Work::new(), Registry::open());
    let builder = start(&[&registry]);
    let name = format!("{}:1", unique("fails"));
    let dockerfile =
        format!("FROM {}\nRUN seq 1 3000; echo to stderr >&2; exit 42\n", registry.push_base());
    let mut request = request(&work, &dockerfile);
    request.tags = vec![reference(&name)];
    let heard = Heard::default();
    let engine = builder.engine().await;
    let error = engine.build(&request, &heard).await.unwrap_err();
    assert!(error.is_of_the_build(), "{error:?}");
    assert!(error.to_string().contains("failed with exit code 42"), "{error}");
    let BuildError::Step { step, exit_code, log, .. } = error else { panic!("{error:?}") };
    assert!(step.contains("RUN seq 1 3000"), "{step}");
    assert_eq!(exit_code, Some(42));
    let expected: Vec<String> = (1..=3000).map(|number| number.to_string()).collect();
    // podman puts the two streams together as they come, even inside a line.
    let numbers = log.replace("to stderr\n", "");
    // So does buildah with what it says itself, where it is quicker than the pipe; then nobody can tell
    // whose it is.
    let numbers = numbers.replace("subprocess exited with status 42\n", "");
    assert_eq!(numbers.lines().collect::<Vec<_>>(), expected);
    assert!(log.contains("to stderr"));
    assert_eq!(heard.log("RUN").len(), log.len());
    assert_eq!(engine.inspect(&name).await.unwrap(), None);
}

async fn a_dockerfile_that_is_wrong_says_what_is(start: impl Fn(&[&Registry]) -> Builder) {
    let (work, builder) = (Work::new(), start(&[]));
    let engine = builder.engine().await;
    for (dockerfile, what) in
        [("FROM scratch\nCOPPY a b\n", "COPPY"), ("FROM scratch\nCOPY nothing /\n", "nothing")]
    {
        let error = engine.build(&request(&work, dockerfile), &Heard::default()).await.unwrap_err();
        assert!(error.is_of_the_build(), "{error:?}");
        assert!(error.to_string().contains(what), "{error}");
    }
}

async fn arguments_targets_and_settings_reach_the_build(start: impl Fn(&[&Registry]) -> Builder) {
    let (work, registry) = (Work::new(), Registry::open());
    let builder = start(&[&registry]);
    let dockerfile = format!(
        "FROM {} AS one\nARG A\nRUN echo \"A=$A\" && cat /etc/hosts\nFROM one\nRUN exit 1\n",
        registry.push_base()
    );
    let name = format!("{}:1", unique("settings"));
    let mut request = request(&work, &dockerfile);
    request.tags = vec![reference(&name), reference(&format!("{name}-b"))];
    request.target = Some("one".to_owned());
    request.no_cache = true;
    request.build_args.insert("A".to_owned(), "a b&\"c".to_owned());
    request.labels.insert("l".to_owned(), "m \"n\" $o".to_owned());
    request.add_hosts = vec!["first:10.0.0.1".to_owned(), "second:10.0.0.2".to_owned()];
    request.network = Some("host".to_owned());
    let heard = Heard::default();
    let engine = builder.engine().await;
    let mut built = engine.build(&request, &heard).await;
    if let (Builder::Buildah, Err(refused @ BuildError::Unsupported { .. })) = (&builder, &built) {
        // From 1.30 on it would give the label another value.
        assert!(refused.to_string().contains("the label `l`"), "{refused}");
        request.labels.insert("l".to_owned(), "m \"n\" \\o".to_owned());
        built = engine.build(&request, &heard).await;
    }
    let id = built.unwrap();
    let log = heard.log("RUN");
    for text in ["A=a b&\"c", "10.0.0.1", "10.0.0.2"] {
        assert!(log.contains(text), "{text} in:\n{log}");
    }
    for tag in &request.tags {
        let image = engine.inspect(&tag.to_string()).await.unwrap().unwrap();
        assert_eq!((&image.id, &image.labels["l"]), (&id, &request.labels["l"]));
        engine.remove(&tag.to_string()).await.unwrap();
    }
}

async fn bases_of_a_closed_registry_are_built_upon_with_its_login(
    start: impl Fn(&[&Registry]) -> Builder,
) {
    let (work, password) = (Work::new(), "a???b>>>~~\u{fc}");
    let closed = [Registry::htpasswd("name@1", password), Registry::token("name@1", password)];
    let builder = start(&[&closed[0], &closed[1]]);
    let engine = builder.engine().await;
    for registry in closed {
        let name = unique("base");
        let base = rig::Image::base().clone().label("unique", &name);
        let digest = registry.push(&name, "1", &base).parse().unwrap();
        let pinned = reference(&registry.name(&name)).with_digest(digest);
        let mut request = request(&work, &format!("FROM {pinned}\nRUN echo it runs\n"));
        request.no_cache = true;
        request.registries = [registry.host().to_owned()].into();

        let error = engine.build(&request, &Heard::default()).await.unwrap_err();
        assert!(!error.is_of_the_build(), "{error:?}");
        assert!(error.to_string().contains(&name), "{error}");

        request.logins = Arc::new(One::new(registry.host(), "name@1", password));
        let heard = Heard::default();
        let id = engine.build(&request, &heard).await.unwrap();
        assert_eq!(heard.log("RUN"), "it runs\n");
        engine.remove(&id.to_string()).await.unwrap();

        let One(_, login) = One::new(registry.host(), "name@1", password);
        engine.pull(&pinned, None, Some(&login), &Heard::default()).await.unwrap();
        let pulled = engine.inspect(&pinned.to_string()).await.unwrap().unwrap();
        assert_eq!(pulled.labels["unique"], name);
        engine.remove(&pinned.to_string()).await.unwrap();
    }
}

async fn dropping_a_build_cancels_it_in_the_engine(start: impl Fn(&[&Registry]) -> Builder) {
    /// Says when a step has written something.
    struct Started(tokio::sync::mpsc::UnboundedSender<()>);
    impl Progress for Started {
        fn event(&self, event: Event) {
            if matches!(event, Event::Log { .. }) {
                let _ = self.0.send(());
            }
        }
    }
    let (work, registry) = (Work::new(), Registry::open());
    let builder = start(&[&registry]);
    // A number of its own: that is how the process is known.
    let seconds = u32::from_str_radix(&unique("")[1..8], 16).unwrap() + 10_000;
    let dockerfile =
        format!("FROM {}\nRUN echo under way; sleep {seconds}\n", registry.push_base());
    let request = request(&work, &dockerfile);
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let (engine, started) = (builder.engine().await, Started(sender));
    tokio::select! {
        built = engine.build(&request, &started) => panic!("{built:?}"),
        _ = receiver.recv() => {}
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while sleeping(seconds) {
        assert!(Instant::now() < deadline, "the step still runs");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether a process of this machine sleeps for so many seconds.
fn sleeping(seconds: u32) -> bool {
    let wanted = format!("sleep\0{seconds}\0");
    std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
        std::fs::read(process.path().join("cmdline")).is_ok_and(|line| line == wanted.as_bytes())
    })
}
