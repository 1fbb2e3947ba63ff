//! Files that a run reports into.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

/// Writes a file: as a whole or not at all. What is no regular file, such as a pipe, is written into.
///
/// # Errors
/// When it cannot be written.
pub fn file(path: &Path, content: &[u8]) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return fs::write(path, content);
    }
    let mut new = tempfile::Builder::new();
    // Like any file that a program writes: private is only what it is written into meanwhile.
    #[cfg(unix)]
    new.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut draft = new.tempfile_in(directory_of(path))?;
    draft.write_all(content)?;
    draft.persist(path)?;
    Ok(())
}

/// Removes the regular file of a run before, if there is one, and finds out early whether another can
/// be written there.
///
/// # Errors
/// When there is no such directory, or the file is not to be removed.
pub fn remove_file(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_file() => fs::remove_file(path),
        Ok(_) => Ok(()),
        Err(_) => fs::metadata(directory_of(path)).map(drop),
    }
}

fn directory_of(path: &Path) -> &Path {
    let named = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    named.unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_takes_the_place_of_the_one_before() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("id");
        file(&path, b"one").unwrap();
        file(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        remove_file(&path).unwrap();
        remove_file(&path).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        assert!(remove_file(&place.path().join("no/id")).is_err());
    }
}
