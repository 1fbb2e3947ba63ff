//! A user who owns nothing, as on a shared machine or in a container of somebody else's.

use std::{path::Path, process::Command};

/// The user, and the ids that it may give to others in its own namespace.
const NOBODY: &str = "65534";
const RANGES: &str = "nobody:200000:65536";

/// Makes the user the owner of a directory and all that is in it.
pub(crate) fn give_to_nobody(place: &Path) {
    let given = Command::new("chown").args(["-R", NOBODY]).arg(place).status().unwrap();
    assert!(given.success());
}

/// A script for `sh` that runs the program that its arguments name for that user, in a view of /etc
/// of its own: there the user has ranges of ids, and this home. `PLACE` in the script is the directory
/// of the test, which the user owns.
pub(crate) fn without_rights(home: &str) -> String {
    format!(
        "if [ -z \"${{INSIDE-}}\" ]; then\n\
         echo {RANGES} > PLACE/ranges\n\
         echo nobody:x:{NOBODY}:{NOBODY}::{home}:/bin/sh > PLACE/passwd\n\
         grep -v ^nobody: /etc/passwd >> PLACE/passwd\n\
         mkdir -p PLACE/home\nchown {NOBODY} PLACE/home\n\
         INSIDE=yes exec unshare -m sh \"$0\" \"$@\"\nfi\n\
         mount --bind PLACE/passwd /etc/passwd\n\
         for file in /etc/subuid /etc/subgid; do\n\
         [ -e $file ] || touch $file\nmount --bind PLACE/ranges $file\ndone\n\
         unset DOCKER_HOST\nexport HOME=PLACE/home SMARTBUILD_ENGINE=buildah\ncd PLACE/work\n\
         exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups \"$@\"\n"
    )
}
