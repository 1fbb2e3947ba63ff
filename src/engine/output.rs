//! What a build is written into instead of a store: a file, a directory, standard output.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;

#[cfg(unix)]
use super::unpack::unpack;
use super::{build::BuildError, scratch::Scratch};
use crate::registry::Digest;

/// What is written, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// What.
    pub kind: OutputKind,
    /// The file or the directory; `None` for standard output.
    pub to: Option<PathBuf>,
}

/// What can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// The files of the image, into a directory.
    Local,
    /// The files of the image, as a tar.
    Tar,
    /// The image, as a tar of OCI's image layout.
    Oci,
}

/// What comes while the build runs, until it is put into its place.
#[derive(Debug)]
pub(super) struct Spool {
    file: NamedTempFile,
    /// Where it lies, if not beside its place.
    _directory: Option<Scratch>,
}

impl Spool {
    /// The file once more, from its beginning.
    pub(super) fn reopen(&self) -> io::Result<fs::File> {
        self.file.reopen()
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }
}

/// What was built and came here, and is not in its place yet.
#[derive(Debug)]
pub struct Exported {
    output: Output,
    spool: Spool,
    digest: Option<Digest>,
}

impl Exported {
    pub(super) fn new(output: &Output, spool: Spool, digest: Option<Digest>) -> Self {
        Self { output: output.clone(), spool, digest }
    }

    /// Puts it into its place, on a thread of its own: whoever reads standard output may take its time.
    /// Gives the digest of the image, where it is one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn deliver(self) -> Result<Option<Digest>, BuildError> {
        let Self { output, spool, digest } = self;
        let put = spawn_blocking(move || output.put(spool)).await.map_err(io::Error::other);
        put.flatten().map_err(|source| BuildError::Output { source })?;
        Ok(digest)
    }
}

impl Output {
    /// A file for what comes while the build runs; nothing is in its place before all is there.
    pub(super) fn spool(&self) -> io::Result<Spool> {
        let mut new = tempfile::Builder::new();
        new.prefix(".smartbuild-");
        let (OutputKind::Tar | OutputKind::Oci, Some(path)) = (self.kind, &self.to) else {
            let directory = Scratch::large("output")?;
            let file = new.tempfile_in(directory.path())?;
            return Ok(Spool { file, _directory: Some(directory) });
        };
        #[cfg(unix)]
        new.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(directory)?;
        Ok(Spool { file: new.tempfile_in(directory)?, _directory: None })
    }

    fn put(&self, spool: Spool) -> io::Result<()> {
        match (&self.to, self.kind) {
            (None, _) => match io::copy(&mut spool.reopen()?, &mut io::stdout().lock()) {
                // Nobody reads on: that is no error of ours.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                copied => drop(copied?),
            },
            (Some(path), OutputKind::Tar | OutputKind::Oci) => {
                spool.file.persist(path)?;
            }
            (Some(path), OutputKind::Local) => {
                unpack(io::BufReader::new(spool.reopen()?), path)?;
            }
        }
        Ok(())
    }
}

/// It writes nothing outside, wherever names and links in the tar lead.
#[cfg(not(unix))]
fn unpack(tar: impl io::Read, into: &Path) -> io::Result<()> {
    fs::create_dir_all(into)?;
    tar::Archive::new(tar).unpack(into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spooled(output: &Output, write: impl FnOnce(&mut tar::Builder<fs::File>)) -> Spool {
        let spool = output.spool().unwrap();
        let mut tar = tar::Builder::new(spool.reopen().unwrap());
        write(&mut tar);
        tar.finish().unwrap();
        spool
    }

    fn header(kind: tar::EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o755);
        header
    }

    #[cfg(unix)]
    #[test]
    fn files_keep_their_modes_and_links_lead_nowhere_outside() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::TempDir::new().unwrap();
        let outside = place.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let to = Some(place.path().join("out"));
        let output = Output { kind: OutputKind::Local, to };
        let spool = spooled(&output, |tar| {
            tar.append_data(&mut header(tar::EntryType::Regular, 1), "bin/tool", &b"x"[..])
                .unwrap();
        });
        output.put(spool).unwrap();
        let tool = fs::metadata(place.path().join("out/bin/tool")).unwrap();
        assert_eq!(tool.permissions().mode() & 0o777, 0o755);

        let spool = spooled(&output, |tar| {
            tar.append_link(&mut header(tar::EntryType::Symlink, 0), "link", &outside).unwrap();
            tar.append_data(&mut header(tar::EntryType::Regular, 1), "link/in", &b"x"[..]).unwrap();
        });
        assert!(output.put(spool).is_err());
        assert!(fs::read_dir(&outside).unwrap().next().is_none());
    }

    #[test]
    fn a_file_is_there_as_a_whole_or_not_at_all() {
        let place = tempfile::TempDir::new().unwrap();
        let path = place.path().join("new/image.tar");
        let output = Output { kind: OutputKind::Oci, to: Some(path.clone()) };
        drop(output.spool().unwrap());
        assert!(!path.exists());
        output.put(output.spool().unwrap()).unwrap();
        assert!(path.exists());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
