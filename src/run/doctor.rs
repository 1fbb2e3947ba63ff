//! What stands between this machine and a build: one finding each, and what to do.

use serde::Serialize;

use super::{World, build::wanted};
use crate::{
    engine::{self, Engine, Version},
    registry::{Access, Tag},
    settings::Request,
};

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it is.
    pub grade: Grade,
    /// What was found.
    pub text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Good,
    /// A build works, and somebody may wonder.
    Odd,
    /// A build cannot work.
    Bad,
}

impl Finding {
    fn good(text: impl Into<String>) -> Self {
        Self { grade: Grade::Good, text: text.into(), advice: None }
    }

    fn odd(text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { grade: Grade::Odd, text: text.into(), advice: Some(advice.into()) }
    }

    fn bad(text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { grade: Grade::Bad, text: text.into(), advice: Some(advice.into()) }
    }
}

/// Looks at everything that a build of `request` would need, and changes nothing.
pub async fn doctor(request: &Request, world: &World) -> Vec<Finding> {
    let mut findings = engines(world).await;
    findings.extend(registries(request, world).await);
    findings
}

/// The engine of this build and, where that is another one, the engine of a build that is pushed, or
/// that is not.
async fn engines(world: &World) -> Vec<Finding> {
    let (own, other) = (
        Found::with(world, world.keeps_images()).await,
        Found::with(world, !world.keeps_images()).await,
    );
    let mut findings = own.findings("");
    if other.place != own.place {
        let when = if world.keeps_images() { "with --push, " } else { "without --push, " };
        // It does not stand in the way of this build.
        let findings_of_other =
            other.findings(when).into_iter().map(|finding| match finding.grade {
                Grade::Bad => Finding { grade: Grade::Odd, ..finding },
                _ => finding,
            });
        findings.extend(findings_of_other);
    }
    if !own.is_buildah() {
        findings.push(buildah(own.found.is_ok()).await);
    }
    findings
}

/// What a search for an engine came to.
struct Found {
    found: Result<(Engine, Version), engine::Error>,
    /// What tells it from another.
    place: String,
}

impl Found {
    async fn with(world: &World, keep: bool) -> Self {
        let find = async {
            let engine = world.find_engine(keep).await?;
            let version = engine.version().await?;
            Ok::<_, engine::Error>((engine, version))
        };
        let found = find.await;
        let place = match &found {
            Ok((engine, version)) => match engine.endpoint() {
                Some(endpoint) => format!(" at {endpoint}"),
                None => format!(" as {}", version.name),
            },
            Err(error) => error.to_string(),
        };
        Self { found, place }
    }

    fn is_buildah(&self) -> bool {
        self.found.as_ref().is_ok_and(|(_, version)| version.name == "buildah")
    }

    fn findings(&self, when: &str) -> Vec<Finding> {
        let (engine, version) = match &self.found {
            Ok(found) => found,
            Err(error) => {
                // The sentence says what to do, in its last part.
                let text = format!("{when}{error}");
                let (text, advice) =
                    text.rsplit_once("; ").unwrap_or((&text, "see docs/engines.md"));
                return vec![Finding::bad(text, advice)];
            }
        };
        let place = engine.endpoint().map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        let Version { name, version: number, platform, .. } = version;
        let mut findings = vec![
            Finding::good(format!("{when}{name} {number} for {platform} answers{place}")),
            Finding::good(format!("{when}it can do {}", engine.abilities(version).join(", "))),
        ];
        if engine.capabilities().is_some_and(|engine| !engine.buildkit) {
            findings.push(Finding::odd(
                "it builds without BuildKit: no secrets, SSH agents, mounts or here-documents",
                "use Docker 18.09 or later, or a buildkitd (BUILDKIT_HOST)",
            ));
        }
        findings
    }
}

/// Whether buildah could step in.
async fn buildah(engine: bool) -> Finding {
    match Engine::buildah(&[]).await {
        Ok(buildah) => {
            let version = buildah.version().await.map(|version| version.version);
            let version = version.unwrap_or_default();
            Finding::good(format!("buildah {version} is there too (--engine buildah)"))
        }
        Err(error) if engine => Finding::good(format!("buildah is no way out: {error}")),
        Err(error) => Finding::odd(
            format!("buildah could build without an engine, but: {error}"),
            "apt-get install buildah, and see docs/engines.md for what it needs",
        ),
    }
}

/// Whether the registries of the tags can be reached, and would let us push.
async fn registries(request: &Request, world: &World) -> Vec<Finding> {
    let wanted = wanted(request, Access::Push);
    if wanted.is_empty() {
        return vec![Finding::odd(
            "no image is named, so that no registry was asked",
            "give -t HOST/NAMESPACE/REPOSITORY:TAG, or set IMAGE_URL and CI_PIPELINE_IID",
        )];
    }
    let mut findings = Vec::new();
    for (repository, access) in wanted {
        let host = repository.host();
        let whose = match world.login(host).await {
            Ok(Some(login)) => format!("the login from {}", login.origin),
            Ok(None) => "no login".to_owned(),
            Err(error) => {
                let advice = "docker-credential-aliyun doctor says more about logins";
                findings.push(Finding::bad(error.to_string(), advice));
                continue;
            }
        };
        let client = world.client();
        let asked = match client.prepare(&[(repository, access)]).await {
            // Some registries look at the login only now.
            Ok(()) => client.resolve(&repository.tagged(Tag::latest())).await,
            Err(error) => Err(error),
        };
        findings.push(match asked {
            Ok(_) => Finding::good(format!("{host} answers, for {repository} with {whose}")),
            Err(error) => Finding::bad(
                format!("with {whose}: {error}"),
                format!("docker-credential-aliyun doctor {host} says more"),
            ),
        });
    }
    findings
}
