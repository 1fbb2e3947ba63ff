//! The builder before BuildKit, and podman's.

use super::{
    Capabilities,
    build::{BuildError, BuildRequest},
    http::Http,
    images::ImageId,
    progress::Progress,
};

/// Builds with the classic builder.
pub(super) async fn build(
    http: &Http,
    capabilities: &Capabilities,
    request: &BuildRequest,
    progress: &dyn Progress,
) -> Result<ImageId, BuildError> {
    let _ = (http, capabilities, request, progress);
    Err(BuildError::Unsupported {
        what: "anything yet".to_owned(),
        why: "it has no BuildKit".to_owned(),
    })
}
