//! What to do about a registry that does not let one in.

use crate::host::{Acr, Edition, Host, Network};
use crate::registry::ProofError;
use crate::transport::TransportError;

/// The next step, as an imperative clause.
pub(super) fn for_proof(host: &Host, error: &ProofError) -> String {
    match error {
        ProofError::Transport(error) => for_transport(host, error),
        ProofError::NotRegistry { .. } | ProofError::Unknown(_) => {
            "check the host's name and port".to_owned()
        }
        ProofError::Refused { .. } => for_refusal(host.acr().as_ref()).to_owned(),
        ProofError::TokenService { .. } => "wait a moment and try again".to_owned(),
        ProofError::Insecure { .. } => "ask whoever runs the registry to use https".to_owned(),
    }
}

fn for_refusal(acr: Option<&Acr>) -> &'static str {
    match acr.map(|acr| acr.edition) {
        Some(Edition::Personal | Edition::Enterprise) => {
            "a RAM user logs in as name@account-id (or name@alias), with the password that was set \
             in the console of Container Registry under Access Credential; it is not the one of \
             the Alibaba Cloud account"
        }
        None => "check the user name and the password",
    }
}

fn for_transport(host: &Host, error: &TransportError) -> String {
    let vpc = host.acr().filter(|acr| acr.network != Network::Public);
    match (error, vpc) {
        (TransportError::Tls { .. }, _) => {
            "if an authority of your own signed the certificate, set SSL_CERT_FILE to a file with \
             it and the public ones; if a proxy reads along, add the proxy's"
                .to_owned()
        }
        (TransportError::Proxy { .. }, _) => {
            "check HTTPS_PROXY, or name the host in NO_PROXY".to_owned()
        }
        (_, Some(acr)) => format!(
            "{host} answers inside the network of region {} only; elsewhere use the host without \
             -vpc or -internal",
            acr.region
        ),
        (TransportError::Unresolved { .. }, None) => {
            "check the host's name, and the DNS".to_owned()
        }
        _ => "check the network, and whether a proxy is needed (HTTPS_PROXY)".to_owned(),
    }
}
