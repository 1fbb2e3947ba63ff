//! A directory of blobs with an index of what they are: OCI's image layout (image-spec
//! `image-layout.md`), written so that whoever is killed, and whoever writes beside, breaks nothing.
//!
//! Knows files; must not know who asks for them, nor what a cache is.

use std::{
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::registry::{Digest, media_type};

/// The annotation with the name of what an index lists (image-spec `annotations.md`).
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation with the whole name of an image, which is more than a tag (buildkit
/// `client/ociindex`).
const IMAGE_NAME: &str = "io.containerd.image.name";
/// What our own unfinished blobs are called.
const UNFINISHED: &str = "smartbuild-";
/// Held by everybody of us who writes, for as long as what was written is not in the index.
const WRITING: &str = "smartbuild.lock";
/// How long the index may be in the hands of somebody else.
const PATIENCE: Duration = Duration::from_secs(5);
/// What lists other blobs.
const WITH_PARTS: [&str; 4] = [
    media_type::OCI_INDEX,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_LIST,
    media_type::DOCKER_MANIFEST,
];
/// The longest index or manifest that is read at once.
const LONGEST_TEXT: u64 = 16 << 20;

/// Such a directory.
#[derive(Clone, Debug)]
pub(super) struct Layout(PathBuf);

/// The right to write into one.
#[derive(Debug)]
pub(super) struct Writing {
    layout: Layout,
    lock: File,
}

/// A blob that is not whole yet.
#[derive(Debug)]
pub(super) struct Unfinished {
    layout: Layout,
    file: NamedTempFile,
    hash: Sha256,
    length: u64,
}

impl Layout {
    /// The one at a place, where nothing need be.
    pub(super) fn at(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// The digest of what the index has under a tag.
    ///
    /// # Errors
    /// When there is no index, or it is none.
    pub(super) fn tagged(&self, tag: &str) -> io::Result<Option<Digest>> {
        let index = self.index()?;
        // As in an index of several images, the whole name goes before a tag.
        let named = |annotation| {
            let mut all = manifests(&index);
            all.find(|descriptor| descriptor["annotations"][annotation] == tag)
        };
        Ok(named(IMAGE_NAME).or_else(|| named(REF_NAME)).and_then(digest_of))
    }

    /// The size of a blob.
    ///
    /// # Errors
    /// When there is none of that digest.
    pub(super) fn size(&self, digest: &Digest) -> io::Result<u64> {
        Ok(fs::metadata(self.blob(digest))?.len())
    }

    /// Where it is.
    pub(super) fn directory(&self) -> &Path {
        &self.0
    }

    /// Opens a blob.
    ///
    /// # Errors
    /// When there is none of that digest.
    pub(super) fn open(&self, digest: &Digest) -> io::Result<File> {
        File::open(self.blob(digest))
    }

    /// Opens a blob. One that is short enough to be a manifest is read through before: it says what the
    /// others are, and nobody else looks whether it is still what it was.
    ///
    /// # Errors
    /// When there is none of that digest, or its content has another.
    pub(super) fn open_verified(&self, digest: &Digest) -> io::Result<File> {
        let mut file = self.open(digest)?;
        if file.metadata()?.len() <= LONGEST_TEXT {
            let mut content = Vec::new();
            file.read_to_end(&mut content)?;
            if !digest.matches(&content) {
                let why = format!("the blob {digest} is damaged; remove {}", self.0.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            file.rewind()?;
        }
        Ok(file)
    }

    /// Begins to write, and removes what others that were killed did not finish.
    ///
    /// # Errors
    /// When the directory cannot be made, or not be written.
    pub(super) fn write(&self) -> io::Result<Writing> {
        for part in ["blobs/sha256", "ingest"] {
            fs::create_dir_all(self.0.join(part))?;
        }
        let lock = File::options().create(true).append(true).open(self.0.join(WRITING))?;
        if lock.try_lock().is_ok() {
            for entry in fs::read_dir(self.0.join("ingest"))?.flatten() {
                if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
        // Where a file system knows no locks, it is done without.
        let _ = lock.lock_shared();
        Ok(Writing { layout: self.clone(), lock })
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// When no file can be made.
    pub(super) fn begin(&self) -> io::Result<Unfinished> {
        let file = readable().tempfile_in(self.0.join("ingest"))?;
        Ok(Unfinished { layout: self.clone(), file, hash: Sha256::new(), length: 0 })
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.0.join("blobs").join(digest.algorithm()).join(digest.hex())
    }

    fn index(&self) -> io::Result<Value> {
        text(&self.0.join("index.json"))
    }
}

impl Writing {
    /// Gives a tag to what a descriptor describes, and takes it from what had it.
    ///
    /// # Errors
    /// When the index is none, cannot be written, or is in the hands of somebody else for too long.
    pub(super) fn tag(&self, descriptor: &Map<String, Value>, tag: &str) -> io::Result<()> {
        let directory = &self.layout.0;
        let lock = IndexLock::take(directory)?;
        let mut index = match self.layout.index() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => json!({
                "schemaVersion": 2,
                "mediaType": media_type::OCI_INDEX,
                "manifests": [],
            }),
            index => index?,
        };
        let mut listed: Vec<Value> = manifests(&index).cloned().collect();
        listed.retain(|other| {
            let annotations = &other["annotations"];
            annotations[REF_NAME] != tag || !annotations[IMAGE_NAME].is_null()
        });
        let mut new = descriptor.clone();
        let annotations = new.entry("annotations").or_insert_with(|| json!({}));
        match annotations.as_object_mut() {
            Some(annotations) => {
                annotations.insert(REF_NAME.to_owned(), tag.into());
            }
            None => *annotations = json!({ REF_NAME: tag }),
        }
        listed.push(new.into());
        // What is read is an object: it was looked at.
        if let Some(index) = index.as_object_mut() {
            index.insert("manifests".to_owned(), listed.into());
        }
        replace(&directory.join("oci-layout"), &json!({ "imageLayoutVersion": "1.0.0" }))?;
        replace(&directory.join("index.json"), &index)?;
        drop(lock);
        Ok(())
    }

    /// Removes the blobs that nothing in the index needs. Nothing is removed while somebody else
    /// writes.
    ///
    /// # Errors
    /// When it is not sure what is needed, or a blob cannot be removed.
    pub(super) fn remove_unneeded(&self) -> io::Result<()> {
        if self.lock.try_lock().is_err() {
            return Ok(());
        }
        let removed = self.sweep();
        let _ = self.lock.lock_shared();
        removed
    }

    fn sweep(&self) -> io::Result<()> {
        let mut needed = BTreeSet::new();
        let mut open: Vec<Value> = manifests(&self.layout.index()?).cloned().collect();
        while let Some(descriptor) = open.pop() {
            let Some(digest) = digest_of(&descriptor) else { continue };
            let has_parts =
                descriptor["mediaType"].as_str().is_some_and(|kind| WITH_PARTS.contains(&kind));
            if needed.insert(digest.clone()) && has_parts {
                let parts = text(&self.layout.blob(&digest))?;
                open.extend(manifests(&parts).cloned());
                open.extend(parts["layers"].as_array().into_iter().flatten().cloned());
                open.push(parts["config"].clone());
            }
        }
        for algorithm in fs::read_dir(self.layout.0.join("blobs"))?.flatten() {
            for blob in fs::read_dir(algorithm.path())?.flatten() {
                let name = format!(
                    "{}:{}",
                    algorithm.file_name().to_string_lossy(),
                    blob.file_name().to_string_lossy()
                );
                // What is no blob is not ours.
                if name.parse().is_ok_and(|digest| !needed.contains(&digest)) {
                    fs::remove_file(blob.path())?;
                }
            }
        }
        Ok(())
    }
}

impl Unfinished {
    /// How much there is of it.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Begins again.
    ///
    /// # Errors
    /// When the file cannot be emptied.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.file.as_file_mut().set_len(0)?;
        self.file.rewind()?;
        (self.hash, self.length) = (Sha256::new(), 0);
        Ok(())
    }

    /// Appends.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all(data)?;
        self.hash.update(data);
        self.length += data.len() as u64;
        Ok(())
    }

    /// Makes it a blob, if it is what is expected, and gives its digest.
    ///
    /// # Errors
    /// When it has another digest, or it cannot be written.
    pub(super) fn finish(self, expected: Option<&Digest>) -> io::Result<Digest> {
        let digest = Digest::Sha256(self.hash.finalize().into());
        if expected.is_some_and(|expected| *expected != digest) {
            let why = format!("what came has the digest {digest}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        // A name must not outlive a crash that the content did not.
        self.file.as_file().sync_data()?;
        self.file.persist(self.layout.blob(&digest))?;
        Ok(digest)
    }
}

/// The lock that BuildKit's own clients take for an index (buildkit `client/ociindex`). They remove it
/// when they are done, and so may have removed the one that was waited for.
struct IndexLock {
    path: PathBuf,
    _file: File,
}

impl IndexLock {
    fn take(directory: &Path) -> io::Result<Self> {
        let path = directory.join("index.json.lock");
        let begun = Instant::now();
        loop {
            let file = File::options().create(true).append(true).open(&path)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => return Ok(Self { path, _file: file }),
                Ok(()) | Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Unsupported => {
                    return Err(error);
                }
                Err(TryLockError::Error(_)) => return Ok(Self { path, _file: file }),
                _ => {
                    let why = format!("{} is held by somebody else", path.display());
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, why));
                }
            }
        }
    }
}

impl Drop for IndexLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a file is still the one at a path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let (Ok(ours), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

/// Whether a file is still the one at a path: an open one cannot be removed here.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

/// Files that may be read by whom the umask lets, as a cache's may.
fn readable() -> tempfile::Builder<'static, 'static> {
    let mut new = tempfile::Builder::new();
    new.prefix(UNFINISHED);
    #[cfg(unix)]
    new.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    new
}

fn replace(path: &Path, value: &Value) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new(".")).join("ingest");
    let mut file = readable().tempfile_in(directory)?;
    file.write_all(value.to_string().as_bytes())?;
    file.as_file().sync_data()?;
    file.persist(path)?;
    Ok(())
}

/// What an index or a manifest says.
fn text(path: &Path) -> io::Result<Value> {
    let broken = |why: String| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()))
    };
    let mut content = Vec::new();
    File::open(path)?.take(LONGEST_TEXT).read_to_end(&mut content)?;
    let value: Value =
        serde_json::from_slice(&content).map_err(|error| broken(error.to_string()))?;
    if value.is_object() { Ok(value) } else { Err(broken("it is no JSON object".to_owned())) }
}

/// What an index lists.
fn manifests(index: &Value) -> impl Iterator<Item = &Value> {
    index["manifests"].as_array().into_iter().flatten()
}

fn digest_of(descriptor: &Value) -> Option<Digest> {
    descriptor["digest"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(layout: &Layout, content: &[u8]) -> Digest {
        let mut blob = layout.begin().unwrap();
        blob.write(b"something else").unwrap();
        blob.restart().unwrap();
        blob.write(content).unwrap();
        blob.finish(Some(&Digest::of(content))).unwrap()
    }

    fn descriptor(kind: &str, digest: &Digest) -> Map<String, Value> {
        let kind = format!("application/vnd.oci.image.{kind}.v1+json");
        let descriptor = json!({ "mediaType": kind, "digest": digest.to_string(), "size": 1 });
        descriptor.as_object().unwrap().clone()
    }

    #[test]
    fn a_blob_is_there_when_it_is_whole_and_what_it_should_be() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::at(&directory.path().join("made/on/demand"));
        let _writing = layout.write().unwrap();
        let digest = put(&layout, b"content");
        assert_eq!(layout.size(&digest).unwrap(), 7);
        let mut read = String::new();
        layout.open_verified(&digest).unwrap().read_to_string(&mut read).unwrap();
        assert_eq!(read, "content");

        let mut wrong = layout.begin().unwrap();
        wrong.write(b"other").unwrap();
        let error = wrong.finish(Some(&digest)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let missing = layout.size(&Digest::of(b"other")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert_eq!(fs::read_dir(layout.0.join("ingest")).unwrap().count(), 0);

        fs::write(layout.blob(&digest), "damaged").unwrap();
        assert!(layout.open_verified(&digest).unwrap_err().to_string().contains("is damaged"));
    }

    #[test]
    fn what_a_killed_writer_left_goes_when_nobody_writes() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::at(directory.path());
        let writing = layout.write().unwrap();
        let (_, left) = layout.begin().unwrap().file.keep().unwrap();
        let beside = layout.write().unwrap();
        assert!(left.exists(), "it may be of the one that writes");
        drop((writing, beside));
        let _writing = layout.write().unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn a_tag_has_the_last_that_got_it_and_others_keep_theirs() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::at(directory.path());
        assert_eq!(layout.tagged("latest").unwrap_err().kind(), io::ErrorKind::NotFound);
        let writing = layout.write().unwrap();
        let [first, second, other] = [b"1", b"2", b"3"].map(|content| put(&layout, content));
        for (digest, tag) in [(&first, "latest"), (&other, "main"), (&second, "latest")] {
            writing.tag(&descriptor("manifest", digest), tag).unwrap();
        }
        assert_eq!(layout.tagged("latest").unwrap(), Some(second));
        assert_eq!(layout.tagged("main").unwrap(), Some(other));
        assert_eq!(layout.tagged("none").unwrap(), None);
        assert_eq!(manifests(&layout.index().unwrap()).count(), 2);
        assert!(!directory.path().join("index.json.lock").exists());

        fs::write(directory.path().join("index.json"), "[").unwrap();
        let error = writing.tag(&descriptor("manifest", &first), "latest").unwrap_err();
        assert!(error.to_string().contains("index.json"), "{error}");
    }

    #[test]
    fn many_who_tag_at_once_lose_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::at(directory.path());
        thread::scope(|scope| {
            for number in 0..8 {
                let layout = &layout;
                scope.spawn(move || {
                    let writing = layout.write().unwrap();
                    let digest = put(layout, b"one");
                    writing.tag(&descriptor("manifest", &digest), &format!("t{number}")).unwrap();
                });
            }
        });
        assert_eq!(manifests(&layout.index().unwrap()).count(), 8);
    }

    #[test]
    fn only_what_the_index_needs_stays_and_nothing_goes_while_others_write() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::at(directory.path());
        let writing = layout.write().unwrap();
        let [layer, config, stray] = [b"l", b"c", b"s"].map(|content| put(&layout, content));
        let manifest = json!({ "config": descriptor("config", &config), "layers": [descriptor("layer", &layer)] });
        let manifest = put(&layout, manifest.to_string().as_bytes());
        let index = json!({ "manifests": [descriptor("manifest", &manifest)] });
        let index = put(&layout, index.to_string().as_bytes());
        writing.tag(&descriptor("index", &index), "latest").unwrap();
        let beside = layout.write().unwrap();
        writing.remove_unneeded().unwrap();
        assert!(layout.size(&stray).is_ok());
        drop(beside);
        writing.remove_unneeded().unwrap();
        assert!(layout.size(&stray).is_err());
        for needed in [&layer, &config, &manifest, &index] {
            assert!(layout.size(needed).is_ok(), "{needed}");
        }
        // Where it cannot be known what is needed, all stays.
        fs::remove_file(layout.blob(&manifest)).unwrap();
        assert!(writing.remove_unneeded().is_err());
        assert!(layout.size(&layer).is_ok());
    }
}
