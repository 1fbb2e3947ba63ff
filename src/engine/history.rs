//! How an image in the engine's store came about.

use super::{
    Error, ImageId,
    daemon::{Daemon, of_bollard},
};

impl Daemon {
    /// The last instruction that made an image, as the engine's builder wrote it down. `None` if the
    /// image has no history, or is gone.
    ///
    /// # Errors
    /// When the engine does not say.
    pub(super) async fn last_instruction(&self, image: &ImageId) -> Result<Option<String>, Error> {
        match self.docker.image_history(&image.to_string()).await {
            // The newest comes first.
            Ok(history) => Ok(history.into_iter().next().map(|step| step.created_by)),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {
                Ok(None)
            }
            Err(error) => Err(of_bollard("say how an image was made", error)),
        }
    }
}
