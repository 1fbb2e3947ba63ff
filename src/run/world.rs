//! The outside things of a run, each made when it is first needed: a hit must not pay for an engine,
//! nor `smartbuild key` for a network.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    io::{self, Read as _},
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::OnceCell;

use super::bases::Bases;
use crate::{
    credentials::{self, Credentials, Login, Logins, Proxies},
    engine::{self, Choice, Endpoint, Engine, Search},
    registry::{self, Client, Manifest, Reference, Timeouts},
    report::Reporter,
    settings::{self, EngineKind, Environment, Request, Verbosity},
};

/// Registries, engine, credentials and the person who watches.
pub struct World {
    /// Says things to people.
    pub reporter: Reporter,
    environment: Environment,
    insecure: Vec<String>,
    choice: Choice,
    keep: bool,
    client: OnceLock<Arc<Client>>,
    credentials: OnceLock<Arc<Credentials>>,
    engine: OnceCell<Engine>,
    stdin: Mutex<Option<Vec<u8>>>,
    bases: Mutex<HashMap<Reference, Base>>,
    publishing: AtomicBool,
}

/// A base image's manifest, asked for once.
type Base = Arc<OnceCell<Option<Manifest>>>;

impl World {
    /// The world as this request sees it.
    #[must_use]
    pub fn new(request: &Request) -> Self {
        let world = Self::of(&request.environment, &request.insecure_registries, request.verbosity);
        let choice = match request.engine {
            EngineKind::Auto => Choice::Auto,
            EngineKind::Docker => Choice::Docker,
            EngineKind::Buildkit => Choice::BuildKit,
            EngineKind::Buildah => Choice::Buildah,
        };
        let keep = request.load || !request.push && request.output.is_none();
        Self { choice, keep, ..world }
    }

    /// The world of an environment.
    #[must_use]
    pub fn of(environment: &Environment, insecure: &[String], verbosity: Verbosity) -> Self {
        Self {
            reporter: Reporter::new(verbosity),
            environment: environment.clone(),
            insecure: insecure.to_vec(),
            choice: Choice::Auto,
            keep: true,
            client: OnceLock::new(),
            credentials: OnceLock::new(),
            engine: OnceCell::new(),
            stdin: Mutex::default(),
            bases: Mutex::default(),
            publishing: AtomicBool::new(false),
        }
    }

    /// The registries.
    pub(super) fn client(&self) -> Arc<Client> {
        let make = || {
            let timeouts = self.timeouts();
            let insecure = self.insecure.clone();
            let config = registry::Config { insecure, timeouts, ..Default::default() };
            Arc::new(Client::new(config, self.credentials()))
        };
        self.client.get_or_init(make).clone()
    }

    /// How long a registry may be silent; the user may say otherwise.
    pub(super) fn timeouts(&self) -> Timeouts {
        // What is no time was refused before.
        let silence = settings::registry_timeout(&self.environment).ok().flatten();
        silence.map(Timeouts::of).unwrap_or_default()
    }

    /// All of standard input, however often it is asked for.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn stdin(&self) -> io::Result<Vec<u8>> {
        let mut known = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = &*known {
            return Ok(text.clone());
        }
        let mut text = Vec::new();
        io::stdin().lock().read_to_end(&mut text)?;
        Ok(known.insert(text).clone())
    }

    /// A client for servers that are no registries.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(super) fn http(&self) -> Result<reqwest::Client, reqwest::Error> {
        // Another part may have chosen the provider already, and chose the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let agent = concat!("smartbuild/", env!("CARGO_PKG_VERSION"));
        reqwest::Client::builder().user_agent(agent).build()
    }

    /// Requests made to registries so far.
    pub(super) fn requests(&self) -> u64 {
        self.client.get().map_or(0, |client| client.statistics().requests)
    }

    /// The manifest of a base image: one answer for every platform and every place that names it.
    ///
    /// # Errors
    /// When its registry cannot be asked.
    pub(super) async fn base(&self, name: &Reference) -> Result<Option<Manifest>, registry::Error> {
        let cell = {
            let mut bases = self.bases.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(bases.entry(name.clone()).or_default())
        };
        cell.get_or_try_init(async || self.client().manifest(name).await).await.cloned()
    }

    /// Says that names are being moved from here on.
    pub(super) fn publishes(&self) {
        self.publishing.store(true, Ordering::Relaxed);
    }

    /// Whether names may have been moved.
    #[must_use]
    pub fn is_publishing(&self) -> bool {
        self.publishing.load(Ordering::Relaxed)
    }

    /// What the conversations with registries have cost so far, in words.
    #[must_use]
    pub fn conversation(&self) -> String {
        let Some(client) = self.client.get() else { return "no registry was asked".to_owned() };
        let cost = client.statistics();
        format!(
            "{} requests to registries ({} for tokens, {} repeated), {} bytes sent, {} received",
            cost.requests, cost.tokens, cost.retries, cost.sent, cost.received
        )
    }

    /// The logins.
    pub(super) fn credentials(&self) -> Arc<Credentials> {
        let make = || Arc::new(Credentials::new(self.environment.clone()));
        self.credentials.get_or_init(make).clone()
    }

    /// The login for a host. Finding it may run a program, so it is done on a thread of its own.
    ///
    /// # Errors
    /// When a login should be there and cannot be fetched.
    pub(super) async fn login(&self, host: &str) -> Result<Option<Login>, credentials::Error> {
        let (credentials, host) = (self.credentials(), host.to_owned());
        let login = tokio::task::spawn_blocking(move || credentials.login(&host)).await;
        login.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// The engine, contacted when it is first asked for.
    ///
    /// # Errors
    /// When none answers.
    pub(super) async fn engine(&self) -> Result<&Engine, engine::Error> {
        self.engine.get_or_try_init(async || self.find_engine(self.keep).await).await
    }

    /// The engine where an image has to be in a store at the end, or where it has not.
    ///
    /// # Errors
    /// When none answers.
    pub(super) async fn find_engine(&self, keep: bool) -> Result<Engine, engine::Error> {
        let variable = |name: &str| self.environment.var(name).ok().flatten().map(str::to_owned);
        let config = self.environment.docker_dir();
        let search = Search {
            choice: self.choice,
            variable: &variable,
            config: config.as_deref(),
            keep,
            insecure: &self.insecure,
        };
        Engine::find(&search).await
    }

    /// Whether images have to be in a store at the end.
    pub(super) fn keeps_images(&self) -> bool {
        self.keep
    }

    /// Whether the user lets a registry go without encryption. Loopback always may, which engines
    /// know by themselves.
    pub(super) fn is_insecure(&self, host: &str) -> bool {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let named =
            |known: &String| known.eq_ignore_ascii_case(host) || known.eq_ignore_ascii_case(name);
        self.insecure.iter().any(named)
    }

    /// The proxies that Docker's configuration passes to every build, as build arguments. They can be
    /// set for one engine alone, by its address: that of the Docker Engine that is set, whatever builds
    /// in the end (buildx `util/storeutil`), so that no engine has to be asked for the key.
    pub(super) fn proxy_arguments(&self) -> BTreeMap<String, String> {
        let credentials = self.credentials();
        let Ok(config) = credentials.docker_config() else { return BTreeMap::new() };
        let variable = |name: &str| self.environment.var(name).ok().flatten().map(str::to_owned);
        let engine = Endpoint::discover(variable, self.environment.docker_dir().as_deref());
        // An address that is none is an error for who builds.
        let address = engine.ok().map(|endpoint| endpoint.address.to_string());
        let proxies = config.proxies(address.as_deref()).map(Proxies::build_arguments);
        proxies.unwrap_or_default().into_iter().collect()
    }

    /// Where digests of unchanged files are remembered.
    pub(super) fn stat_cache(&self) -> Option<PathBuf> {
        self.cache_directory().map(|directory| directory.join("stat"))
    }

    /// What is remembered of base images.
    pub(super) fn bases(&self) -> Option<Bases> {
        self.cache_directory().map(|directory| Bases::new(directory.join("bases")))
    }

    /// The user's directory for what can be made again.
    fn cache_directory(&self) -> Option<PathBuf> {
        let base = self.environment.path("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let base = base.or_else(|| Some(self.environment.home()?.join(".cache")))?;
        Some(base.join("smartbuild"))
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("environment", &self.environment).finish_non_exhaustive()
    }
}
