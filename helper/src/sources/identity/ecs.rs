//! The role of the ECS instance that this runs on, from instance metadata (version 2: with a
//! session token; version 1 answers anybody who makes the machine send a request, and is not used).

use std::time::Duration;

use http::Request;

use super::fetch::{Fetch, read_keys};
use super::{Obtain, Problem};
use crate::openapi::{AccessKey, acs3};
use crate::transport::Route;

/// Where metadata is served, in every region and network.
pub(super) const ENDPOINT: &str = "http://100.100.100.200";

const TOKEN: &str = "/latest/api/token";
const ROLES: &str = "/latest/meta-data/ram/security-credentials/";
const WHAT: &str = "ECS instance metadata";
const METADATA: Fetch = Fetch { what: WHAT, route: Route::Direct };

/// How long the metadata of a machine may take that only looks like one with a role: it is on the
/// machine's own network, or switched off, or behind a firewall.
const GLANCE: Duration = Duration::from_secs(1);

/// What the firmware of an ECS instance calls the machine. Nobody else waits for metadata.
pub(super) fn is_instance(product_name: &str) -> bool {
    product_name.trim() == "Alibaba Cloud ECS"
}

/// The keys of the named role, or of the one that the instance has. Nothing if it has none, and
/// neither if nobody `asked` for a role and there is no metadata to be had.
pub(super) fn obtain(
    role: Option<&str>,
    asked: bool,
    with: &Obtain<'_>,
) -> Result<Option<AccessKey>, Problem> {
    let ask_token = || {
        Request::put(format!("{}{TOKEN}", with.metadata))
            .header("x-aliyun-ecs-metadata-token-ttl-seconds", "300")
            .body(Vec::new())
    };
    let token = if asked {
        METADATA.run(with, ask_token)?
    } else {
        match METADATA.glance(with, GLANCE, ask_token) {
            Ok(token) => token,
            Err(Problem::Transport { .. } | Problem::Status { .. }) => return Ok(None),
            Err(problem) => return Err(problem),
        }
    };
    let get = |path: &str| {
        METADATA.run(with, || {
            Request::get(format!("{}{ROLES}{path}", with.metadata))
                .header("x-aliyun-ecs-metadata-token", token.trim_ascii())
                .body(Vec::new())
        })
    };
    let role = match role {
        Some(role) => role.to_owned(),
        None => match get("") {
            Ok(roles) => match String::from_utf8_lossy(&roles).lines().next().map(str::trim) {
                Some(role) if !role.is_empty() => role.to_owned(),
                _ => return Ok(None),
            },
            Err(Problem::Status { status: 404, .. }) => return Ok(None),
            Err(Problem::Status { status: 403, .. }) if !asked => return Ok(None),
            Err(problem) => return Err(problem),
        },
    };
    match get(&acs3::encode(&role)) {
        Ok(keys) => read_keys(WHAT, &keys).map(Some),
        Err(Problem::Status { status: 404, .. }) => Err(Problem::NoInstanceRole(Some(role))),
        Err(problem) => Err(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_known_by_its_firmware() {
        assert!(is_instance("Alibaba Cloud ECS\n"));
        assert!(!is_instance("KVM"));
        assert!(!is_instance(""));
    }
}
