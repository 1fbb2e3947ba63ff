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
    ACTION, Exporter, Place,
    grpc::{Client, Code, Status},
    trace::Trace,
};
use crate::engine::{
    build::{BuildError, BuildRequest},
    dial::dial,
    error::Error,
    http::{Http, accepted, empty},
    progress::Progress,
};
use crate::registry::Digest;

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
    let elsewhere = |cache: &&String| is_list(cache) && reference_of(cache).is_none();
    let cache = request.cache_from.iter().find(elsewhere)?;
    Some(format!("with the cache of `{cache}`"))
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
    let question = question(place, session, request, exporter)?;
    let mut trace = Trace::default();
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
        ("force-network-mode", network.clone()),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            set(name.into(), value);
        }
    }
    // The frontend asks for what it imports; imports of the solve itself are for builds without one
    // (buildkit `client/solve.go`: `parseCacheOptions`).
    if !request.cache_from.is_empty() {
        set("cache-imports".into(), imports(&request.cache_from)?);
    }
    let cache = CacheOptions { exports: exports(request)?, ..CacheOptions::default() };
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
        entitlements: match network.as_deref() {
            Some("host") => vec!["network.host".to_owned()],
            _ => Vec::new(),
        },
        ..SolveRequest::default()
    })
}

/// The caches that are exported. `/build` reads one of them out of a build argument, as buildx does
/// (moby `builder/builder-next/builder.go`: `BUILDKIT_INLINE_CACHE`); here it has to be asked for.
fn exports(request: &BuildRequest) -> Result<Vec<CacheOptionsEntry>, BuildError> {
    let mut exports = caches(&request.cache_to)?;
    let argument = request.build_args.get("BUILDKIT_INLINE_CACHE");
    // What Go's `strconv.ParseBool` takes for true.
    let wanted =
        argument.is_some_and(|on| ["1", "t", "T", "true", "TRUE", "True"].contains(&on.as_str()));
    if wanted && !exports.iter().any(|export| export.r#type == "inline") {
        exports.push(CacheOptionsEntry { r#type: "inline".to_owned(), attrs: HashMap::new() });
    }
    Ok(exports)
}

/// Whether a cache goes into the image itself.
pub(in crate::engine) fn is_inline(text: &str) -> bool {
    cache(text).is_ok_and(|cache| cache.r#type == "inline")
}

/// Caches as people write them: `type=registry,ref=host/name`, or a reference alone.
fn caches(texts: &[String]) -> Result<Vec<CacheOptionsEntry>, BuildError> {
    texts.iter().map(|text| cache(text)).collect()
}

/// Caches as a frontend reads them.
fn imports(texts: &[String]) -> Result<String, BuildError> {
    let entry = |cache: &CacheOptionsEntry| json!({ "Type": cache.r#type, "Attrs": cache.attrs });
    Ok(caches(texts)?.iter().map(entry).collect::<Value>().to_string())
}

fn cache(text: &str) -> Result<CacheOptionsEntry, BuildError> {
    let wrong = |why: &str| BuildError::Unsupported {
        what: format!("with the cache `{text}`"),
        why: why.to_owned(),
    };
    if !is_list(text) {
        let attrs = [("ref".to_owned(), text.to_owned())].into();
        return Ok(CacheOptionsEntry { r#type: "registry".to_owned(), attrs });
    }
    let pairs = text.split(',').map(|pair| pair.split_once('='));
    let mut attrs: HashMap<String, String> = pairs
        .map(|pair| pair.map(|(name, value)| (name.trim().to_lowercase(), value.to_owned())))
        .collect::<Option<_>>()
        .ok_or_else(|| wrong("write it as type=registry,ref=host/name"))?;
    let kind = attrs.remove("type").unwrap_or_default();
    match kind.as_str() {
        "registry" | "inline" => Ok(CacheOptionsEntry { r#type: kind, attrs }),
        "" => Err(wrong("its type is missing; write it as type=registry,ref=host/name")),
        _ => Err(wrong("only caches of the types `registry` and `inline` are understood")),
    }
}

/// Whether a cache is written as a list of pairs, rather than as a reference.
fn is_list(cache: &str) -> bool {
    cache.contains('=')
}

/// The reference of a cache in a registry, which `/build` can use too.
pub(in crate::engine) fn reference_of(cache: &str) -> Option<&str> {
    if !is_list(cache) {
        return Some(cache);
    }
    match cache.split(',').collect::<Vec<_>>()[..] {
        ["type=registry", name] | [name, "type=registry"] => name.strip_prefix("ref="),
        _ => None,
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
            let exports = exports(request).unwrap().into_iter();
            exports.map(|export| export.r#type).collect::<Vec<_>>()
        };
        for (value, expected) in
            [("0", &[][..]), ("", &[]), ("1", &["inline"]), ("true", &["inline"])]
        {
            request.build_args.insert("BUILDKIT_INLINE_CACHE".to_owned(), value.to_owned());
            assert_eq!(kinds(&request), expected, "{value}");
        }
        request.cache_to = vec!["type=inline".to_owned(), "type=registry,ref=a/b".to_owned()];
        assert_eq!(kinds(&request), ["inline", "registry"]);
        assert!(is_inline("type=inline") && !is_inline("type=registry,ref=a/type=inline"));
    }

    #[test]
    fn a_cache_is_a_reference_or_a_list() {
        for text in ["host/name:tag", "type=registry,ref=host/name:tag"] {
            assert_eq!(reference_of(text), Some("host/name:tag"));
            let entry = cache(text).unwrap();
            assert_eq!(
                (entry.r#type.as_str(), entry.attrs["ref"].as_str()),
                ("registry", "host/name:tag")
            );
        }
        let entry = cache("type=registry,ref=a/b,mode=max").unwrap();
        assert_eq!(entry.attrs["mode"], "max");
        assert_eq!(reference_of("type=registry,ref=a/b,mode=max"), None);
        for text in ["ref=a/b", "type=gha", "type=registry,ref"] {
            assert!(cache(text).is_err(), "{text}");
        }
    }
}
