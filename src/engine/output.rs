//! What a build is written into instead of a store: a file, a directory, standard output.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

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

impl Output {
    /// A file for what comes while the build runs; nothing is in its place before all is there.
    pub(super) fn spool(&self) -> io::Result<NamedTempFile> {
        let mut new = tempfile::Builder::new();
        new.prefix(".smartbuild-");
        let (OutputKind::Tar | OutputKind::Oci, Some(path)) = (self.kind, &self.to) else {
            return new.tempfile();
        };
        #[cfg(unix)]
        new.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(directory)?;
        new.tempfile_in(directory)
    }

    /// Puts what came into its place.
    pub(super) fn deliver(&self, spool: NamedTempFile) -> io::Result<()> {
        match (&self.to, self.kind) {
            (None, _) => {
                io::copy(&mut spool.reopen()?, &mut io::stdout().lock())?;
            }
            (Some(path), OutputKind::Tar | OutputKind::Oci) => {
                spool.persist(path)?;
            }
            (Some(path), OutputKind::Local) => {
                fs::create_dir_all(path)?;
                // It writes nothing outside, wherever names and links in the tar lead.
                let mut files = tar::Archive::new(io::BufReader::new(spool.reopen()?));
                files.set_preserve_permissions(true);
                files.unpack(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spooled(output: &Output, write: impl FnOnce(&mut tar::Builder<fs::File>)) -> NamedTempFile {
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
        output.deliver(spool).unwrap();
        let tool = fs::metadata(place.path().join("out/bin/tool")).unwrap();
        assert_eq!(tool.permissions().mode() & 0o777, 0o755);

        let spool = spooled(&output, |tar| {
            tar.append_link(&mut header(tar::EntryType::Symlink, 0), "link", &outside).unwrap();
            tar.append_data(&mut header(tar::EntryType::Regular, 1), "link/in", &b"x"[..]).unwrap();
        });
        assert!(output.deliver(spool).is_err());
        assert!(fs::read_dir(&outside).unwrap().next().is_none());
    }

    #[test]
    fn a_file_is_there_as_a_whole_or_not_at_all() {
        let place = tempfile::TempDir::new().unwrap();
        let path = place.path().join("new/image.tar");
        let output = Output { kind: OutputKind::Oci, to: Some(path.clone()) };
        drop(output.spool().unwrap());
        assert!(!path.exists());
        output.deliver(output.spool().unwrap()).unwrap();
        assert!(path.exists());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
