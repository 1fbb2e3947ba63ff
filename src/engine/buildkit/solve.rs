//! A build driven by BuildKit's own `Control` service, for what the engine's `/build` cannot carry:
//! named contexts, the export of caches, caches that are not in a registry.
//!
//! Docker's engine serves it behind `POST /grpc`; an engine that has done away with that speaks
//! gRPC on its socket at once (moby#50744).

use std::{collections::HashMap, time::Duration};

use bollard_buildkit_proto::moby::buildkit::v1::{
    CacheOptions, CacheOptionsEntry, SolveRequest, SolveResponse, StatusRequest, StatusResponse,
};
use http::{Method, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    ACTION, Exporter, Place, content,
    grpc::{Client, Code, Status},
    trace::Trace,
};
use crate::engine::{
    build::{BuildError, BuildRequest},
    dial::dial,
    error::Error,
    http::{Http, accepted, empty},
    progress::{Event, Progress},
};
use crate::{
    layer_cache::{LayerCache, is_true},
    registry::Digest,
};

/// How long the rest of the progress may take to come when a build is over.
const DRAIN: Duration = Duration::from_secs(3);

mod method {
    pub(super) const SOLVE: &str = "/moby.buildkit.v1.Control/Solve";
    pub(super) const STATUS: &str = "/moby.buildkit.v1.Control/Status";
}

/// What of a request only this way of building can do, if there is anything.
pub(in crate::engine) fn needed_for(request: &BuildRequest) -> Option<String> {
    if let Some(name) = request.contexts.keys().next() {
        return Some(format!("with the named context `{name}`"));
    }
    if let Some(cache) = request.cache_to.first() {
        return Some(format!("with its cache exported to `{cache}`"));
    }
    if let Some(stage) = request.no_cache_filter.first() {
        return Some(format!("without the cache of stage `{stage}` alone"));
    }
    if let Some(entitlement) = request.allow.first() {
        return Some(format!("with `--allow {entitlement}`"));
    }
    None
}

/// Whether a request can be built with `/build`, which knows caches by references alone.
pub(super) fn fits_into_build(request: &BuildRequest) -> bool {
    needed_for(request).is_none()
        && request.cache_from.iter().all(|cache| cache.bare_reference().is_some())
}

/// What BuildKit says of a build that is done.
pub(super) struct Solved(HashMap<String, String>);

impl Solved {
    /// The digest of the image: of its manifest, else of its configuration.
    pub(super) fn digest(&self) -> Result<Digest, BuildError> {
        let told = ["containerimage.digest", "containerimage.config.digest"];
        let told = told.iter().find_map(|name| self.0.get(*name)).and_then(|d| d.parse().ok());
        told.ok_or_else(|| {
            let what = "ended the build without naming an image".to_owned();
            Error::Protocol { action: ACTION.to_owned(), what }.into()
        })
    }

    /// The descriptor of the cache that was exported, in JSON (buildkit `cache/remotecache/export.go`).
    pub(super) fn cache(&self) -> Option<&str> {
        self.0.get("cache.manifest").map(String::as_str)
    }
}

/// Builds over a session that is open.
pub(super) async fn run(
    place: Place<'_>,
    client: &Client,
    session: &str,
    request: &BuildRequest,
    exporter: Exporter,
    progress: &dyn Progress,
) -> Result<Solved, BuildError> {
    let imports = imports(&request.cache_from, progress);
    let question = question(place, session, request, exporter, &imports)?;
    let mut trace = Trace::new(&request.cache_from);
    let solved = {
        let solving = client.unary::<_, SolveResponse>(method::SOLVE, &question);
        let watching = watch(client, session, &mut trace, progress);
        tokio::pin!(solving, watching);
        tokio::select! {
            solved = &mut solving => {
                // A build that was refused at once has no progress to wait for.
                let _ = timeout(DRAIN, watching).await;
                solved
            }
            _ = &mut watching => solving.await,
        }
    };
    match solved {
        Ok(SolveResponse { exporter_response: told }) => Ok(Solved(told)),
        Err(Status { code: Code::Cancelled, .. }) => Err(BuildError::Cancelled),
        Err(Status { code: Code::Unavailable, message: reason }) => {
            Err(Error::Broken { action: ACTION.to_owned(), reason }.into())
        }
        Err(Status { message, .. }) => Err(trace.failure(message)),
    }
}

/// Tells of the progress of a build until it is over.
async fn watch(
    client: &Client,
    build: &str,
    trace: &mut Trace,
    progress: &dyn Progress,
) -> Result<(), Status> {
    let question = StatusRequest { r#ref: build.to_owned() };
    let mut updates = client.stream(method::STATUS, &question).await?;
    while let Some(update) = updates.next::<StatusResponse>().await? {
        trace.update(update, progress);
    }
    Ok(())
}

/// A connection with the BuildKit in a Docker Engine.
pub(super) async fn connect(http: &Http) -> Result<Client, Error> {
    const ASK: &str = "speak BuildKit's own language";
    let request = http
        .request(Method::POST, "/grpc")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "h2c")
        .body(empty())
        .map_err(|error| Error::broken(ASK, &error))?;
    let client = match accepted(ASK, http.send(ASK, request).await?).await {
        Ok(response) => {
            let connection = hyper::upgrade::on(response).await;
            let connection = connection.map_err(|error| Error::broken(ASK, &error))?;
            Client::new(connection, "localhost").await
        }
        Err(Error::Refused { status: 404, .. }) => {
            let connection =
                dial(&http.endpoint.address).await.map_err(|e| http.unreachable(&e))?;
            Client::new(TokioIo::new(connection), "localhost").await
        }
        Err(error) => return Err(error),
    };
    client.map_err(|error| Error::broken(ASK, &error))
}

/// What BuildKit is asked for (buildkit `frontend/dockerui/config.go` for the attributes).
fn question(
    place: Place<'_>,
    session: &str,
    request: &BuildRequest,
    (exporter, exporter_attributes): Exporter,
    imports: &[CacheOptionsEntry],
) -> Result<SolveRequest, BuildError> {
    let refuse = |what: &str, why: &str| BuildError::Unsupported {
        what: what.to_owned(),
        why: why.to_owned(),
    };
    let mut attributes = HashMap::new();
    let mut set = |name: String, value: String| attributes.insert(name, value);
    set("filename".into(), request.dockerfile_name.clone());
    let mode = if request.pull { "pull" } else { "default" };
    set("image-resolve-mode".into(), mode.into());
    for (name, value) in &request.build_args {
        set(format!("build-arg:{name}"), value.clone());
    }
    for (name, value) in &request.labels {
        set(format!("label:{name}"), value.clone());
    }
    if !request.contexts.is_empty() {
        if matches!(place, Place::Engine(_, engine) if !engine.knows_contexts()) {
            let why = "its BuildKit is too old for that; use Docker 23.0 or later";
            return Err(refuse("with named contexts", why));
        }
        // A frontend from an image that does not know them has to say so.
        set("frontend.caps".into(), "moby.buildkit.frontend.contexts".into());
    }
    for name in request.contexts.keys() {
        set(format!("context:{name}"), format!("local:{name}"));
    }
    if request.no_cache {
        set("no-cache".into(), String::new());
    } else if !request.no_cache_filter.is_empty() {
        set("no-cache".into(), request.no_cache_filter.join(","));
    }
    let hosts = request.add_hosts.iter().map(|host| host.replacen(':', "=", 1));
    let hosts: Vec<_> = hosts.collect();
    if hosts.iter().any(|host| host.ends_with("=host-gateway")) {
        let why = "only its older interface knows the address; give the address instead";
        return Err(refuse("with `host-gateway` in this way", why));
    }
    let limits = request.ulimits.iter().map(|l| format!("{}={}:{}", l.name, l.soft, l.hard));
    let lists = [("add-hosts", hosts), ("ulimit", limits.collect())];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        set(name.into(), list.join(","));
    }
    let network = request.network.clone().filter(|network| network != "default");
    let texts = [
        ("target", request.target.clone()),
        ("platform", request.platform.as_ref().map(ToString::to_string)),
        ("shm-size", request.shm_size.map(|size| size.to_string())),
        ("force-network-mode", network),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            set(name.into(), value);
        }
    }
    // The frontend asks for what it imports; imports of the solve itself are for builds without one
    // (buildkit `client/solve.go`: `parseCacheOptions`).
    if !imports.is_empty() {
        let entry =
            |cache: &CacheOptionsEntry| json!({ "Type": cache.r#type, "Attrs": cache.attrs });
        set("cache-imports".into(), imports.iter().map(entry).collect::<Value>().to_string());
    }
    let cache = CacheOptions { exports: exports(request), ..CacheOptions::default() };
    Ok(SolveRequest {
        r#ref: session.to_owned(),
        session: session.to_owned(),
        exporter_deprecated: exporter.to_owned(),
        exporter_attrs_deprecated: exporter_attributes
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        frontend: "dockerfile.v0".to_owned(),
        frontend_attrs: attributes,
        cache: Some(cache),
        entitlements: entitlements(request),
        ..SolveRequest::default()
    })
}

/// What the steps may ask for. Who gives all of them the network of the host allows it to each.
fn entitlements(request: &BuildRequest) -> Vec<String> {
    const HOST: &str = "network.host";
    let mut entitlements = request.allow.clone();
    let is_implied = request.network.as_deref() == Some("host");
    if is_implied && !entitlements.iter().any(|entitlement| entitlement == HOST) {
        entitlements.push(HOST.to_owned());
    }
    entitlements
}

/// The caches that are exported. `/build` reads one of them out of a build argument, as buildx does
/// (moby `builder/builder-next/builder.go`: `BUILDKIT_INLINE_CACHE`); here it has to be asked for.
fn exports(request: &BuildRequest) -> Vec<CacheOptionsEntry> {
    let mut exports: Vec<_> = request.cache_to.iter().map(entry).collect();
    let argument = request.build_args.get("BUILDKIT_INLINE_CACHE");
    let wanted = is_true(argument.map(String::as_str));
    if wanted && !exports.iter().any(|export| export.r#type == "inline") {
        exports.push(CacheOptionsEntry { r#type: "inline".to_owned(), attrs: HashMap::new() });
    }
    exports
}

/// The caches that are imported. A directory is asked for what it has now; where it has nothing, the
/// build does without.
fn imports(caches: &[LayerCache], progress: &dyn Progress) -> Vec<CacheOptionsEntry> {
    let import = |cache: &LayerCache| {
        let mut import = entry(cache);
        match cache.local().map(content::found) {
            None => {}
            Some(Ok(digest)) => {
                import.attrs.insert("digest".to_owned(), digest.to_string());
            }
            Some(Err(reason)) => {
                if cache.is_wanted() {
                    progress.event(Event::unused(cache, &reason));
                }
                return None;
            }
        }
        Some(import)
    };
    caches.iter().filter_map(import).collect()
}

fn entry(cache: &LayerCache) -> CacheOptionsEntry {
    let attributes = cache.attributes().iter();
    CacheOptionsEntry {
        r#type: cache.kind().to_owned(),
        attrs: attributes.map(|(name, value)| (name.clone(), value.clone())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inline_cache_may_be_asked_for_with_a_build_argument() {
        let context = crate::engine::Context { root: "/c".into(), tree: std::sync::Arc::default() };
        let logins = std::sync::Arc::new(crate::credentials::Anonymous);
        let mut request = BuildRequest::new(b"FROM scratch\n".to_vec(), context, logins);
        let kinds = |request: &BuildRequest| {
            let exports = exports(request).into_iter();
            exports.map(|export| export.r#type).collect::<Vec<_>>()
        };
        for (value, expected) in
            [("0", &[][..]), ("", &[]), ("1", &["inline"]), ("true", &["inline"])]
        {
            request.build_args.insert("BUILDKIT_INLINE_CACHE".to_owned(), value.to_owned());
            assert_eq!(kinds(&request), expected, "{value}");
        }
        let to = |text| LayerCache::destination(text).unwrap();
        request.cache_to = vec![to("type=inline"), to("type=registry,ref=a/b")];
        assert_eq!(kinds(&request), ["inline", "registry"]);
    }
}
