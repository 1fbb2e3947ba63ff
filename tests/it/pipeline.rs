//! A project with its pipeline: a Dockerfile, a registry, and the CI variables of issue and README.

use smartbuild_test_rig::{Program, Registry, Work, unique};

/// The RAM user of the pipeline.
pub(crate) const USER: &str = "robin@5939306421830868";

/// The user's password: a text that is nowhere else.
pub(crate) const PASSWORD: &str = "Correct-Horse-7f3a91";

/// The Dockerfile of [`Pipeline::new`]. The file `project` has the repository's name, so that no two
/// tests have the same image: they share an engine.
const DOCKERFILE: &str = "\
ARG BASE
FROM $BASE
COPY greeting project /
RUN tr a-z A-Z < /greeting > /shout
";

/// A project in a working directory, and a registry that asks for [`USER`] and [`PASSWORD`].
pub(crate) struct Pipeline {
    /// The registry, with the base image in it.
    pub(crate) registry: Registry,
    /// The project.
    pub(crate) work: Work,
    /// The repository, without the host.
    pub(crate) repository: String,
    base: String,
}

impl Pipeline {
    /// A project that has not been built yet.
    pub(crate) fn new() -> Self {
        Self::on(Registry::htpasswd(USER, PASSWORD))
    }

    /// The same with another registry.
    pub(crate) fn on(registry: Registry) -> Self {
        let base = registry.push_base();
        let work = Work::new();
        let repository = unique("team/toolbox");
        work.write("Dockerfile", DOCKERFILE).write("greeting", "hello\n");
        work.write("project", &repository);
        Self { registry, work, repository, base }
    }

    /// `IMAGE_URL`.
    pub(crate) fn image(&self) -> String {
        self.registry.name(&self.repository)
    }

    /// `smartbuild` as the pipeline's job runs it: with the five CI variables and nothing else.
    /// No engine is in reach unless the test gives one.
    pub(crate) fn job(&self, arguments: &[&str], pipeline: &str) -> Program {
        let program = Program::smartbuild(arguments).args([self.base_argument()]);
        let variables = self.variables(pipeline);
        variables.iter().fold(program, |program, (name, value)| program.env(name, value))
    }

    /// The argument that names the base.
    pub(crate) fn base_argument(&self) -> String {
        format!("--build-arg=BASE={}", self.base)
    }

    /// The five variables of the job.
    pub(crate) fn variables(&self, pipeline: &str) -> [(&'static str, String); 5] {
        [
            ("REGISTRY_USERNAME", USER.to_owned()),
            ("REGISTRY_PASSWORD", PASSWORD.to_owned()),
            ("REGISTRY_URL", self.registry.host().to_owned()),
            ("IMAGE_URL", self.image()),
            ("CI_PIPELINE_IID", pipeline.to_owned()),
        ]
    }

    /// The digest of a tag.
    pub(crate) fn digest(&self, tag: &str) -> Option<String> {
        self.registry.digest(&self.repository, tag)
    }

    /// The tags people see: the key's own left out.
    pub(crate) fn tags(&self) -> Vec<String> {
        let mut tags = self.registry.tags(&self.repository);
        tags.retain(|tag| !tag.starts_with("sb1-"));
        tags
    }
}
