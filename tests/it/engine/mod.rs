//! The engine room against a real engine: what is served is what is built, what fails says why.

mod apart;
mod buildah;
mod buildkit;
mod caches;
mod classic;
mod doctor;
mod elsewhere;
mod every;
mod features;
mod lines;
mod moving;
mod outputs;
mod perishing;
mod ssh;

use std::sync::{Arc, Mutex};

use smartbuild::{
    context::{Ignore, Options, Read, scan},
    credentials::{Anonymous, Error as LoginError, Login, Logins},
    engine::{
        BuildError, BuildRequest, Context, Endpoint, Engine, Error, Event, ImageId, Progress,
        StepId,
    },
    registry::Reference,
};
use smartbuild_test_rig::{self as rig, Registry, Work, unique};

pub(crate) use self::features::is_newer;

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
        let mut events = self.0.lock().unwrap();
        // buildah stumbles where tests share its store: only what comes then counts.
        if matches!(&event, Event::Note { text } if text.starts_with("building once more")) {
            events.clear();
        }
        events.push(event);
    }
}

impl Heard {
    /// All that the steps with this in their names wrote.
    fn log(&self, name: &str) -> String {
        let events = self.0.lock().unwrap();
        let named = |id: &StepId| {
            events.iter().any(|event| {
                matches!(event, Event::StepKnown { step, name: known, .. } if step == id && known.contains(name))
            })
        };
        let texts = events.iter().filter_map(|event| match event {
            Event::Log { step, text, .. } if named(step) => {
                Some(String::from_utf8_lossy(text).into_owned())
            }
            _ => None,
        });
        texts.collect()
    }

    /// The step whose name has this in it.
    fn step(&self, name: &str) -> StepId {
        let events = self.0.lock().unwrap();
        let step = events.iter().find_map(|event| match event {
            Event::StepKnown { step, name: known, .. } if known.contains(name) => Some(*step),
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
    for (answer, words) in [
        ("SSH-2.0-OpenSSH_9.9\r\n", "invalid HTTP version"),
        (
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
            "it answers 503 Service Unavailable",
        ),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let endpoint = Endpoint::parse(&address, "DOCKER_HOST", None).unwrap();
        let error = Engine::connect(&endpoint).await.err().unwrap();
        assert!(matches!(error, Error::NotAnEngine { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn what_accepts_a_connection_and_does_not_answer_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            silent.push(stream);
        }
    });
    let plain = Endpoint::parse(&format!("tcp://127.0.0.1:{port}"), "DOCKER_HOST", None).unwrap();
    let secure = format!("https://127.0.0.1:{port}");
    let secure = Endpoint::parse(&secure, "DOCKER_HOST", None).unwrap();
    let (plain, secure, buildkitd) =
        tokio::join!(Engine::connect(&plain), Engine::connect(&secure), Engine::buildkitd(&plain));
    for error in [plain, secure, buildkitd].map(|connected| connected.err().unwrap()) {
        assert!(error.is_unreachable(), "{error:?}");
        assert!(error.to_string().contains("it does not answer"), "{error}");
    }
}

#[tokio::test]
async fn a_directory_of_certificates_that_is_not_there_is_said() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let tls = smartbuild::engine::Tls::of("/nowhere/certificates");
    let endpoint = Endpoint::parse(&address, "DOCKER_HOST", Some(tls)).unwrap();
    let error = Engine::connect(&endpoint).await.err().unwrap();
    assert!(
        error.to_string().contains("/nowhere/certificates: there is no such directory"),
        "{error}"
    );
}
