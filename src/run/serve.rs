//! What the engine is asked to build: exactly what was hashed.

use super::{Prepared, World};
use crate::{
    engine::{self, BuildError, BuildRequest, Context, SshAgent},
    inputs::Key,
    settings::{OutputKind, OutputSpec, Request, SecretSource, SecretSpec, SshSpec, Ulimit},
};

/// The build of a request whose inputs are known.
///
/// # Errors
/// When an SSH agent that it is given does not answer.
pub(super) async fn build_request(
    request: &Request,
    prepared: &Prepared,
    world: &World,
) -> Result<BuildRequest, BuildError> {
    let context = Context { root: request.context.clone(), tree: prepared.inputs.context.clone() };
    let mut build = BuildRequest::new(prepared.dockerfile.clone(), context, world.credentials());
    build.contexts = prepared
        .inputs
        .contexts
        .iter()
        .filter_map(|(name, tree)| {
            let root = prepared.roots.get(name)?.clone();
            Some((name.clone(), Context { root, tree: tree.clone() }))
        })
        .collect();
    // No name: until what cannot be pinned was looked at once more, an image of another key might
    // stand under it.
    build.target = request.target.clone();
    build.build_args = prepared.build_args.clone();
    build.labels = request.labels.clone();
    if prepared.not_skippable.is_none() {
        build.labels.insert(Key::LABEL.to_owned(), prepared.key.to_string());
    }
    // The key is of one platform, and an engine elsewhere may be of another.
    build.platform = Some(request.target_platform());
    build.no_cache = request.no_cache;
    build.cache_from = request.cache_from.clone();
    build.network = request.network.clone();
    build.add_hosts = request.add_host.clone();
    build.shm_size = request.shm_size;
    build.secrets = request.secrets.iter().map(secret).collect();
    for SshSpec { id, places } in &request.ssh {
        let agent = SshAgent::open(places).await;
        let agent = agent.map_err(|reason| BuildError::Agent { id: id.clone(), reason })?;
        build.ssh.insert(id.clone(), agent);
    }
    build.registries = prepared.registries.clone();
    build.needs_buildkit = prepared.slice.features.clone();
    build.cache_to = request.cache_to.clone();
    build.allow = request.allow.clone();
    build.no_cache_filter = request.no_cache_filter.clone();
    build.ulimits = request.ulimits.iter().map(ulimit).collect();
    build.source_date_epoch =
        request.build_args.get("SOURCE_DATE_EPOCH").and_then(|epoch| epoch.parse().ok());
    Ok(build)
}

/// Where a build is written to.
pub(super) fn output(output: &OutputSpec) -> engine::Output {
    let kind = match output.kind {
        OutputKind::Local => engine::OutputKind::Local,
        OutputKind::Tar => engine::OutputKind::Tar,
        OutputKind::Oci => engine::OutputKind::Oci,
    };
    engine::Output { kind, to: output.to.clone() }
}

fn secret(secret: &SecretSpec) -> (String, engine::SecretSource) {
    let source = match &secret.source {
        SecretSource::File(path) => engine::SecretSource::File(path.clone()),
        SecretSource::Variable(name) => engine::SecretSource::Variable(name.clone()),
        SecretSource::Command(line) => engine::SecretSource::Command(line.clone()),
    };
    (secret.id.clone(), source)
}

fn ulimit(limit: &Ulimit) -> engine::Ulimit {
    engine::Ulimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard }
}
