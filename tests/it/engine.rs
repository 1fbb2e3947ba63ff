//! The engine room against a real engine: what is served is what is built, what fails says why.

use std::sync::{Arc, Mutex};

use smartbuild::{
    context::{Ignore, Options, Read, scan},
    credentials::{Anonymous, Error as LoginError, Login, Logins},
    engine::{
        BuildError, BuildRequest, Context, Endpoint, Engine, Error, Event, ImageId, Progress,
        SecretSource, StepId,
    },
    registry::{Digest, Reference},
};
use smartbuild_test_rig::{self as rig, Registry, Work, unique};

/// Connects with the engine of the rig.
async fn engine() -> Engine {
    let endpoint = Endpoint::parse(rig::Engine::get().host(), "the rig", None).unwrap();
    Engine::connect(&endpoint).await.unwrap()
}

/// Everything in a test's directory, as it is now.
fn context(work: &Work) -> Context {
    let root = work.path();
    let tree = scan(&root, &Ignore::none(), &[Read::All], &Options::default()).unwrap();
    Context { root, tree: Arc::new(tree) }
}

/// A build of that Dockerfile in a test's directory.
fn request(work: &Work, dockerfile: &str) -> BuildRequest {
    BuildRequest::new(dockerfile.into(), context(work), Arc::new(Anonymous))
}

fn reference(name: &str) -> Reference {
    name.parse().unwrap()
}

/// Listens, and remembers.
#[derive(Default)]
struct Heard(Mutex<Vec<Event>>);

impl Progress for Heard {
    fn event(&self, event: Event) {
        #[expect(clippy::print_stdout, reason = "it is seen only where a test fails")]
        {
            println!("{event:?}");
        }
        self.0.lock().unwrap().push(event);
    }
}

impl Heard {
    /// All that steps wrote.
    fn log(&self) -> String {
        let events = self.0.lock().unwrap();
        let texts = events.iter().filter_map(|event| match event {
            Event::Log { text, .. } => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        });
        texts.collect()
    }

    /// The step whose name has this in it.
    fn step(&self, name: &str) -> StepId {
        let events = self.0.lock().unwrap();
        let step = events.iter().find_map(|event| match event {
            Event::StepKnown { step, name: known } if known.contains(name) => Some(*step),
            _ => None,
        });
        step.unwrap_or_else(|| panic!("there was no step {name}"))
    }

    /// The bytes of the context that were sent, with what goes round them.
    fn sent(&self) -> u64 {
        let context = self.step("load build context");
        let events = self.0.lock().unwrap();
        let amounts = events.iter().filter_map(|event| match event {
            Event::Transfer { step, amount, .. } if *step == context => Some(amount.current),
            _ => None,
        });
        amounts.max().unwrap_or(0)
    }

    /// Whether a step came from the cache.
    fn cached(&self, name: &str) -> bool {
        let step = self.step(name);
        self.0.lock().unwrap().contains(&Event::StepCached { step })
    }
}

/// An image that is removed when the test is over.
struct Image {
    name: String,
}

impl Image {
    fn new(name: &str) -> Self {
        Self { name: format!("{}:1", unique(name)) }
    }

    fn reference(&self) -> Reference {
        reference(&self.name)
    }

    /// What a command in a container of it writes.
    fn run(&self, command: &[&str]) -> String {
        rig::Engine::get().run(&self.name, command).success().stdout().to_owned()
    }

    fn exists(&self) -> bool {
        rig::Engine::get().image_id(&self.name).is_some()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        rig::Engine::get().forget(&self.name);
    }
}

/// Builds and names an image.
async fn build(work: &Work, image: &Image, dockerfile: &str) -> Result<ImageId, BuildError> {
    let mut request = request(work, dockerfile);
    request.tags = vec![image.reference()];
    engine().await.build(&request, &Heard::default()).await
}

/// The one login of one registry.
struct One(String, Login);

impl One {
    fn new(host: &str, username: &str, password: &str) -> Self {
        let login = Login {
            username: username.to_owned(),
            secret: password.to_owned().into(),
            origin: "the test".to_owned(),
            identity_token: false,
        };
        Self(host.to_owned(), login)
    }
}

impl Logins for One {
    fn login(&self, host: &str) -> Result<Option<Login>, LoginError> {
        Ok((host == self.0).then(|| self.1.clone()))
    }
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn an_image_is_found_by_its_label_tagged_and_removed() {
    let (work, engine) = (Work::new(), engine().await);
    let (first, second, third) = (Image::new("label"), Image::new("label"), Image::new("label"));
    let value = unique("value");
    let mut request = request(&work, "FROM scratch\nENV A=b\nLABEL of.file=1\n");
    request.labels.insert("io.smartbuild.test".to_owned(), value.clone());
    request.tags = vec![first.reference(), second.reference()];
    let id = engine.build(&request, &Heard::default()).await.unwrap();

    let found = engine.find_labelled("io.smartbuild.test", &value).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].id, id);
    assert_eq!(found[0].labels["of.file"], "1");
    assert!(found[0].environment.contains(&"A=b".to_owned()));
    assert!(first.exists() && second.exists());
    assert!(engine.find_labelled("io.smartbuild.test", "other").await.unwrap().is_empty());

    engine.tag(&id, &third.reference()).await.unwrap();
    assert_eq!(engine.inspect(&third.name).await.unwrap().unwrap().id, id);
    engine.remove(&third.name).await.unwrap();
    assert!(!third.exists() && first.exists());
    engine.remove(&third.name).await.unwrap();
    assert_eq!(engine.inspect(&third.name).await.unwrap(), None);
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn what_is_served_is_what_is_built() {
    let (work, registry, image) = (Work::new(), Registry::open(), Image::new("served"));
    work.write("plain", "plain\n")
        .write("script", "#!/bin/sh\n")
        .chmod("script", 0o750)
        .write("private", "x")
        .chmod("private", 0o600)
        .write("directory/deep/file", vec![b'x'; 100_000])
        .write("directory/empty", "")
        .write("directory-1/file", "after the directory in walk order")
        .write("a b\u{e4}%&=+", "a name with everything")
        .symlink("plain", "link")
        .symlink("/nowhere", "dangling");
    let base = registry.push_base();
    let dockerfile = format!(
        "FROM {base}\nCOPY . /c\nRUN cd /c && find . -exec stat -c '%N %a %u:%g %s' {{}} + | sort\n"
    );
    let mut request = request(&work, &dockerfile);
    request.tags = vec![image.reference()];
    request.no_cache = true;
    let heard = Heard::default();
    engine().await.build(&request, &heard).await.unwrap();
    let log = heard.log();
    for line in [
        "./plain 644 0:0 6",
        "./script 755 0:0 10",
        "./private 644 0:0 1",
        "./directory/deep/file 644 0:0 100000",
        "./directory/empty 644 0:0 0",
        "./directory-1/file 644 0:0 33",
        "./a b\u{e4}%&=+ 644 0:0 22",
        "'./link' -> 'plain' 777 0:0 5",
        "'./dangling' -> '/nowhere' 777 0:0 8",
    ] {
        let plain = line.replace('\'', "");
        assert!(log.replace('\'', "").lines().any(|found| found == plain), "{line} in:\n{log}");
    }
    assert_eq!(image.run(&["cat", "/c/a b\u{e4}%&=+"]), "a name with everything");
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn a_warm_engine_is_sent_what_changed_and_nothing_else() {
    let (work, image, engine) = (Work::new(), Image::new("warm"), engine().await);
    for index in 0..50 {
        work.write(format!("file-{index}"), vec![index; 20_000]);
    }
    let dockerfile = "FROM scratch\nCOPY . /\n";
    let sent = async |work: &Work| {
        let mut request = request(work, dockerfile);
        request.tags = vec![image.reference()];
        let heard = Heard::default();
        engine.build(&request, &heard).await.unwrap();
        (heard.sent(), heard.cached("COPY"))
    };
    assert!(sent(&work).await.0 > 1_000_000);
    let (again, cached) = sent(&work).await;
    assert!(again < 20_000 && cached, "{again}");

    // The same length and the same time: only the content tells.
    let path = work.join("file-7");
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    work.write("file-7", vec![b'y'; 20_000]);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    let (changed, cached) = sent(&work).await;
    assert!((20_000..40_000).contains(&changed) && !cached, "{changed}");
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn times_in_the_image_are_those_of_the_disk() {
    let (work, registry, image) = (Work::new(), Registry::open(), Image::new("times"));
    // BuildKit's cache knows no times: what it has of this content keeps its own.
    work.write("file", unique("content"));
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_234_567_890);
    let file = std::fs::File::options().write(true).open(work.join("file")).unwrap();
    file.set_modified(time).unwrap();
    let dockerfile = format!("FROM {}\nCOPY file /file\n", registry.push_base());
    build(&work, &image, &dockerfile).await.unwrap();
    assert_eq!(image.run(&["stat", "-c", "%Y", "/file"]).trim(), "1234567890");

    let mut request = request(&work, &format!("{dockerfile}RUN stat -c %Y /file # again\n"));
    request.source_date_epoch = Some(1_000_000_000);
    request.no_cache = true;
    let heard = Heard::default();
    engine().await.build(&request, &heard).await.unwrap();
    assert_eq!(heard.log().trim(), "1000000000");
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn a_file_that_changes_after_it_was_hashed_fails_the_build() {
    let (work, image) = (Work::new(), Image::new("changed"));
    for (change, name) in [("other content", "same length"), ("longer than it was", "longer")] {
        work.write("a", "first content").write("b", "x");
        let mut request = request(&work, &format!("FROM scratch\nLABEL a=\"{name}\"\nCOPY . /\n"));
        request.tags = vec![image.reference()];
        work.write("a", change);
        let error = engine().await.build(&request, &Heard::default()).await.unwrap_err();
        let BuildError::ContextChanged(changed) = &error else { panic!("{error:?}") };
        assert_eq!(changed.path.to_str(), Some("a"), "{name}");
        assert!(error.is_of_the_build());
        assert!(!image.exists());
    }
    work.write("gone", "x");
    let request = request(&work, "FROM scratch\nCOPY . /\n");
    work.remove("gone");
    let error = engine().await.build(&request, &Heard::default()).await.unwrap_err();
    assert!(matches!(&error, BuildError::ContextChanged(_)), "{error:?}");
    assert!(error.to_string().contains("`gone`"), "{error}");
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn a_name_that_the_protocol_cannot_carry_is_said_before_anything_is_built() {
    use std::os::unix::ffi::OsStrExt;
    let work = Work::new();
    work.write(std::ffi::OsStr::from_bytes(b"caf\xe9"), "x");
    let request = request(&work, "FROM scratch\nCOPY . /\n");
    let error = engine().await.build(&request, &Heard::default()).await.unwrap_err();
    assert!(matches!(error, BuildError::Unsupported { .. }), "{error:?}");
    assert!(error.to_string().contains("caf"), "{error}");
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn a_step_that_fails_says_which_and_shows_all_it_wrote() {
    let (work, registry, image) = (Work::new(), Registry::open(), Image::new("fails"));
    let dockerfile =
        format!("FROM {}\nRUN seq 1 3000; echo to stderr >&2; exit 42\n", registry.push_base());
    let mut request = request(&work, &dockerfile);
    request.tags = vec![image.reference()];
    let heard = Heard::default();
    let error = engine().await.build(&request, &heard).await.unwrap_err();
    assert!(error.is_of_the_build());
    assert!(error.to_string().contains("failed with exit code 42"), "{error}");
    let BuildError::Step { step, exit_code, log, .. } = error else { panic!("{error:?}") };
    assert!(step.contains("RUN seq 1 3000"), "{step}");
    assert_eq!(exit_code, Some(42));
    let expected: Vec<String> = (1..=3000).map(|number| number.to_string()).collect();
    let numbers: Vec<&str> = log.lines().filter(|line| *line != "to stderr").collect();
    assert_eq!(numbers, expected);
    assert!(log.contains("to stderr") && heard.log() == log);
    assert!(!image.exists());
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn a_dockerfile_that_is_wrong_says_where() {
    let (work, image) = (Work::new(), Image::new("wrong"));
    let error = build(&work, &image, "FROM scratch\nCOPPY a b\n").await.unwrap_err();
    assert!(error.is_of_the_build(), "{error:?}");
    assert!(error.to_string().contains("COPPY"), "{error}");
    let error = build(&work, &image, "FROM scratch\nCOPY nothing /\n").await.unwrap_err();
    assert!(error.is_of_the_build(), "{error:?}");
    assert!(error.to_string().contains("nothing"), "{error}");
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn the_served_dockerfile_hides_nothing_and_the_contexts_own_is_copied() {
    let (work, registry, image) = (Work::new(), Registry::open(), Image::new("dockerfile"));
    let base = registry.push_base();
    work.write("Dockerfile", "the one on disk\n")
        .write(".dockerignore", "kept\n")
        .write("kept", "whoever selected it knows why\n");
    build(&work, &image, &format!("FROM {base}\nCOPY . /c\n")).await.unwrap();
    assert_eq!(image.run(&["cat", "/c/Dockerfile"]), "the one on disk\n");
    assert_eq!(image.run(&["ls", "-A", "/c"]), ".dockerignore\nDockerfile\nkept\n");
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn arguments_targets_and_settings_reach_the_build() {
    let (work, registry, image) = (Work::new(), Registry::open(), Image::new("settings"));
    let dockerfile = format!(
        "FROM {} AS one\nARG A\nRUN echo \"A=$A\" && cat /etc/hosts && df /dev/shm && ulimit -n\n\
         FROM one\nRUN exit 1\n",
        registry.push_base()
    );
    let mut request = request(&work, &dockerfile);
    request.tags = vec![image.reference()];
    request.target = Some("one".to_owned());
    request.no_cache = true;
    request.build_args.insert("A".to_owned(), "a b&\"c".to_owned());
    request.add_hosts = vec!["first:10.0.0.1".to_owned(), "second:10.0.0.2".to_owned()];
    request.network = Some("none".to_owned());
    let heard = Heard::default();
    engine().await.build(&request, &heard).await.unwrap();
    let log = heard.log();
    assert!(log.contains("A=a b&\"c"), "{log}");
    for host in ["10.0.0.1", "10.0.0.2"] {
        assert!(log.contains(host), "{log}");
    }
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn a_push_gives_the_digest_that_the_registry_has() {
    let (work, engine) = (Work::new(), engine().await);
    let password = "a???b>>>~~\u{fc}";
    let registry = Registry::htpasswd("name@1", password);
    let image = Image { name: format!("{}:1", registry.name(&unique("push"))) };
    let repository = image.reference().repository.path().to_owned();
    work.write("file", unique("content"));
    build(&work, &image, "FROM scratch\nCOPY file /\n").await.unwrap();

    let nobody = engine.push(&image.reference(), None, &Heard::default()).await.unwrap_err();
    assert!(nobody.to_string().contains("no login was found"), "{nobody}");
    let One(_, wrong) = One::new(registry.host(), "name@1", "wrong");
    let refused = engine.push(&image.reference(), Some(&wrong), &Heard::default()).await;
    assert!(matches!(refused, Err(Error::Push { .. })), "{refused:?}");

    let One(_, login) = One::new(registry.host(), "name@1", password);
    let heard = Heard::default();
    let digest = engine.push(&image.reference(), Some(&login), &heard).await.unwrap();
    assert_eq!(registry.digest(&repository, "1"), Some(digest.to_string()));
    assert!(heard.0.lock().unwrap().iter().any(|event| matches!(event, Event::Layer { .. })));
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn bases_of_a_closed_registry_are_built_upon_and_pulled_with_its_login() {
    let (work, engine) = (Work::new(), engine().await);
    for registry in [Registry::htpasswd("user", "secret"), Registry::token("user", "secret")] {
        let image = Image::new("closed");
        let name = unique("base");
        let base = rig::Image::base().clone().label("unique", &name);
        let digest: Digest = registry.push(&name, "1", &base).parse().unwrap();
        let pinned = reference(&registry.name(&name)).with_digest(digest);
        let mut request = request(&work, &format!("FROM {pinned}\nRUN echo it runs\n"));
        request.tags = vec![image.reference()];
        request.no_cache = true;

        let error = engine.build(&request, &Heard::default()).await.unwrap_err();
        assert!(!error.is_of_the_build(), "{error:?}");
        assert!(error.to_string().contains(&name), "{error}");

        request.logins = Arc::new(One::new(registry.host(), "user", "secret"));
        let heard = Heard::default();
        engine.build(&request, &heard).await.unwrap();
        assert_eq!(heard.log(), "it runs\n");

        let One(_, login) = One::new(registry.host(), "user", "secret");
        engine.pull(&pinned, None, Some(&login), &Heard::default()).await.unwrap();
        let pulled = engine.inspect(&pinned.to_string()).await.unwrap().unwrap();
        assert_eq!(pulled.labels["unique"], name);
        engine.remove(&pinned.to_string()).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn secrets_are_given_to_the_steps_that_mount_them() {
    let (work, registry) = (Work::new(), Registry::open());
    work.write("../secret", "from a file\n");
    let dockerfile = format!(
        "# syntax-free\nFROM {}\n\
         RUN --mount=type=secret,id=file cat /run/secrets/file\n\
         RUN --mount=type=secret,id=value,target=/v cat /v\n\
         RUN --mount=type=secret,id=none test ! -e /run/secrets/none\n",
        registry.push_base()
    );
    let mut request = request(&work, &dockerfile);
    request.no_cache = true;
    request.secrets = [
        ("file".to_owned(), SecretSource::File(work.join("../secret"))),
        ("value".to_owned(), SecretSource::Value("a value\n".to_owned().into())),
    ]
    .into();
    let heard = Heard::default();
    let id = engine().await.build(&request, &heard).await.unwrap();
    assert_eq!(heard.log(), "from a file\na value\n");
    engine().await.remove(&id.to_string()).await.unwrap();

    request.secrets.insert("file".to_owned(), SecretSource::File("/nowhere".into()));
    let error = engine().await.build(&request, &Heard::default()).await.unwrap_err();
    assert!(error.to_string().contains("cannot read the secret `file`: /nowhere"), "{error}");
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn an_ssh_agent_is_given_to_the_steps_that_mount_it() {
    use std::io::{Read as _, Write as _};
    let (work, registry) = (Work::new(), Registry::open());
    let socket = work.join("../agent");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    // Whoever asks is answered with the question, twice.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut question = [0; 5];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(&[question, question].concat()).unwrap();
        }
    });
    let dockerfile = format!(
        "FROM {}\nRUN --mount=type=ssh echo \"socket: $SSH_AUTH_SOCK\" && \
         echo ping | nc local:$SSH_AUTH_SOCK || true\n",
        registry.push_base()
    );
    let mut request = request(&work, &dockerfile);
    request.no_cache = true;
    request.ssh = [("default".to_owned(), socket)].into();
    let heard = Heard::default();
    let id = engine().await.build(&request, &heard).await.unwrap();
    assert!(heard.log().contains("socket: /run/buildkit/ssh_agent"), "{}", heard.log());
    engine().await.remove(&id.to_string()).await.unwrap();
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn dropping_a_build_cancels_it_in_the_engine() {
    let (work, registry) = (Work::new(), Registry::open());
    let seconds = 10_000 + u64::from(std::process::id());
    let dockerfile =
        format!("FROM {}\nRUN echo under way; sleep {seconds}\n", registry.push_base());
    let request = request(&work, &dockerfile);
    /// Says when a step has written something.
    struct Started(tokio::sync::mpsc::UnboundedSender<()>);
    impl Progress for Started {
        fn event(&self, event: Event) {
            if matches!(event, Event::Log { .. }) {
                let _ = self.0.send(());
            }
        }
    }
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let (engine, started) = (engine().await, Started(sender));
    tokio::select! {
        built = engine.build(&request, &started) => panic!("{built:?}"),
        _ = receiver.recv() => {}
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while sleeping(seconds) {
        assert!(std::time::Instant::now() < deadline, "the step still runs");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Whether a process of this machine sleeps for so many seconds.
fn sleeping(seconds: u64) -> bool {
    let wanted = format!("sleep\0{seconds}\0");
    std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
        std::fs::read(process.path().join("cmdline")).is_ok_and(|line| line == wanted.as_bytes())
    })
}

#[tokio::test]
async fn an_engine_that_does_not_run_is_said_not_to() {
    let endpoint = Endpoint::parse("unix:///nowhere/docker.sock", "DOCKER_HOST", None).unwrap();
    let error = Engine::connect(&endpoint).await.err().unwrap();
    assert!(error.is_unreachable());
    let text = error.to_string();
    assert!(text.contains("unix:///nowhere/docker.sock (from DOCKER_HOST)"), "{text}");
    assert!(text.contains("there is no such socket"), "{text}");
}

#[tokio::test]
async fn what_is_no_engine_is_said_not_to_be_one() {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await;
        }
    });
    let endpoint = Endpoint::parse(&address, "DOCKER_HOST", None).unwrap();
    let error = Engine::connect(&endpoint).await.err().unwrap();
    assert!(matches!(error, Error::NotAnEngine { .. }), "{error:?}");
}
