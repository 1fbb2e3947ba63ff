//! What is remembered of base images: environment and `ONBUILD` triggers, by digest and platform.
//!
//! A digest never means anything else, so what was read once is right for ever; losing it costs a
//! request or two. Nothing here is needed, and no failure of it is reported.

use std::{fs, io::Write, path::PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{dockerfile::BaseImage, platform::Platform, registry::Digest};

/// A directory of small files, one for each base image.
#[derive(Clone, Debug)]
pub(super) struct Bases {
    directory: PathBuf,
}

/// A file's content; the digest and the platform say that it is the right one.
#[derive(Serialize, Deserialize)]
struct Remembered {
    digest: Digest,
    platform: Platform,
    env: Vec<(String, String)>,
    onbuild: Vec<String>,
}

impl Bases {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// What is remembered of an image.
    pub(super) fn get(&self, digest: &Digest, platform: &Platform) -> Option<BaseImage> {
        let text = fs::read(self.file(digest, platform)).ok()?;
        let found: Remembered = serde_json::from_slice(&text).ok()?;
        let right = found.digest == *digest && found.platform == *platform;
        right.then_some(BaseImage { env: found.env, onbuild: found.onbuild })
    }

    /// Remembers an image, unless that cannot be done.
    pub(super) fn put(&self, digest: &Digest, platform: &Platform, base: &BaseImage) {
        let remembered = Remembered {
            digest: digest.clone(),
            platform: platform.clone(),
            env: base.env.clone(),
            onbuild: base.onbuild.clone(),
        };
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(&self.directory)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            file.write_all(&serde_json::to_vec(&remembered)?)?;
            file.persist(self.file(digest, platform))?;
            Ok(())
        };
        let _ = write();
    }

    fn file(&self, digest: &Digest, platform: &Platform) -> PathBuf {
        let name = Sha256::digest(format!("{digest} {platform}"));
        self.directory.join(format!("{}.json", hex::encode(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_once_is_remembered_and_damage_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let bases = Bases::new(directory.path().join("bases"));
        let (digest, platform) = (Digest::of(b"x"), Platform::host());
        let base = BaseImage {
            env: vec![("PATH".into(), "/bin".into())],
            onbuild: vec!["COPY . /app".into()],
        };
        assert_eq!(bases.get(&digest, &platform), None);
        bases.put(&digest, &platform, &base);
        assert_eq!(bases.get(&digest, &platform), Some(base));
        assert_eq!(bases.get(&digest, &"linux/s390x".parse().unwrap()), None);
        fs::write(bases.file(&digest, &platform), b"{").unwrap();
        assert_eq!(bases.get(&digest, &platform), None);
    }
}
