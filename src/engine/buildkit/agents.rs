//! SSH agents, forwarded to the steps of a build that mount them.

use std::collections::BTreeMap;

use bollard_buildkit_proto::moby::sshforward::v1::{
    BytesMessage, CheckAgentRequest, CheckAgentResponse,
};
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use super::grpc::{self, Code, Messages, Outgoing, Status};
use crate::engine::SshAgent;

/// The agent's id when nobody gives it another (buildkit `session/sshforward/ssh.go`).
const DEFAULT: &str = "default";
/// The metadata that names the agent.
const ID: &str = "buildkit.ssh.id";
/// So much is passed on at once: buildkit's own size.
const CHUNK: usize = 32 << 10;

fn named<'a>(agents: &'a BTreeMap<String, SshAgent>, id: &str) -> Result<&'a SshAgent, Status> {
    let id = if id.is_empty() { DEFAULT } else { id };
    agents
        .get(id)
        .ok_or_else(|| Status::new(Code::NotFound, format!("there is no SSH agent `{id}`")))
}

/// Says whether there is an agent of that name.
pub(super) async fn check(
    agents: &BTreeMap<String, SshAgent>,
    asked: CheckAgentRequest,
) -> Result<CheckAgentResponse, Status> {
    named(agents, &asked.id).map(|_| CheckAgentResponse {})
}

/// Connects a step with an agent.
pub(super) async fn forward(
    agents: &BTreeMap<String, SshAgent>,
    request: Request<Incoming>,
) -> Response<Outgoing> {
    let id = request.headers().get(ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let agent = match named(agents, id) {
        Ok(agent) => agent,
        Err(status) => return grpc::refuse(status),
    };
    let connection = match agent.connect().await {
        Ok(connection) => connection,
        Err(error) => {
            let message =
                format!("cannot reach the SSH agent at {}: {error}", agent.socket().display());
            return grpc::refuse(Status::new(Code::Unavailable, message));
        }
    };
    let (mut from_agent, mut to_agent) = tokio::io::split(connection);
    let (sender, receiver) = mpsc::channel(1);
    let mut questions = Messages::new(request.into_body());
    tokio::spawn(async move {
        while let Ok(Some(BytesMessage { data })) = questions.next().await {
            if to_agent.write_all(&data).await.is_err() {
                break;
            }
        }
        let _ = to_agent.shutdown().await;
    });
    tokio::spawn(async move {
        let mut chunk = vec![0; CHUNK];
        while let Ok(length @ 1..) = from_agent.read(&mut chunk).await {
            let data = chunk.get(..length).unwrap_or_default().to_vec();
            if sender.send(Ok(grpc::encoded(&BytesMessage { data }))).await.is_err() {
                break;
            }
        }
    });
    grpc::response(receiver)
}
