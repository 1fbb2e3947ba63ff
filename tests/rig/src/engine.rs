//! The engine that the tests build with.

use std::sync::OnceLock;

use crate::command::{Program, Ran};
use crate::work::Work;

/// A Docker Engine that runs already: `SMARTBUILD_TEST_DOCKER_HOST`, else `DOCKER_HOST`, else the
/// usual socket. `tests/run.sh` starts one where none answers.
#[derive(Debug)]
pub struct Engine {
    host: String,
    version: String,
}

impl Engine {
    /// The engine; a test that gets here without one fails.
    pub fn get() -> &'static Self {
        static ENGINE: OnceLock<Engine> = OnceLock::new();
        ENGINE.get_or_init(|| {
            let host = ["SMARTBUILD_TEST_DOCKER_HOST", "DOCKER_HOST"]
                .into_iter()
                .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
                .unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned());
            let work = Work::new();
            let format = "{{.Server.Version}}";
            let ran = work.run(
                Program::named("docker")
                    .args(["version", "--format", format])
                    .env("DOCKER_HOST", &host),
            );
            assert!(ran.code() == 0, "no Docker Engine answers at {host}: use tests/run.sh");
            Self { host, version: ran.stdout().trim().to_owned() }
        })
    }

    /// Its address, as `DOCKER_HOST` has it.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its version, such as `20.10.24`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The `docker` program with these arguments, pointed at this engine. It asks the credential helpers
    /// of `config.json`, but no keychain of the machine.
    pub fn docker<S: AsRef<str>>(&self, arguments: impl IntoIterator<Item = S>) -> Program {
        Program::named("docker").args(arguments).engine(self).without_keychain()
    }

    /// The id of an image in the engine's own store, if it is there.
    #[must_use]
    pub fn image_id(&self, name: &str) -> Option<String> {
        let ran = Work::new().run(self.docker(["image", "inspect", "--format", "{{.Id}}", name]));
        (ran.code() == 0).then(|| ran.stdout().trim().to_owned())
    }

    /// Runs a command in a container of an image, without network, and gives what happened.
    pub fn run(&self, image: &str, command: &[&str]) -> Ran {
        let arguments = ["run", "--rm", "--network", "none", image];
        Work::new().run(self.docker(arguments.iter().chain(command)))
    }

    /// Removes an image from the engine's store, with all its tags, if it is there.
    pub fn forget(&self, name: &str) {
        if let Some(id) = self.image_id(name) {
            Work::new().run(self.docker(["image", "rm", "--force", &id]));
        }
    }
}
