//! Starts of the proxy in another way than [`Daemon`](super::Daemon)'s own.

use std::path::{Path, PathBuf};

use nix::unistd::User;
use tempfile::TempDir;

use crate::program::Program;
use crate::{machine, shipped};

/// A script that stands in for the proxy, and runs it in its way. A [`Daemon`](super::Daemon) gives
/// its program `--config FILE` and then its own arguments.
pub struct StartScript {
    directory: TempDir,
}

impl StartScript {
    /// Without `--config FILE`.
    pub fn without_config() -> Self {
        Self::script("shift 2")
    }

    /// Without `--config FILE`, in this directory.
    pub fn without_config_in(directory: &Path) -> Self {
        Self::script(&format!("shift 2\ncd '{}'", directory.display()))
    }

    /// With the contents of this directory mounted over `/etc`, for it alone. Needs root.
    pub fn with_etc(directory: &Path) -> Self {
        let own = directory.display();
        Self::script(&format!(
            "[ -n \"$MOUNTED\" ] || MOUNTED=yes exec unshare --mount \"$0\" \"$@\"\n\
             unset MOUNTED\n\
             mount -t tmpfs tmpfs /mnt && cp -a /etc/. /mnt && cp -a '{own}'/. /mnt &&\n\
             for made in '{own}'/*; do mount --bind \"$made\" \"/mnt/${{made##*/}}\"; done &&\n\
             mount --move /mnt /etc || exit 99"
        ))
    }

    /// As its unit runs it: with few capabilities, and with `ProtectProc=invisible` and
    /// `ProcSubset=pid`. Needs root.
    pub fn with_invisible_processes() -> Self {
        Self::script(&format!(
            "[ -n \"$MOUNTED\" ] || MOUNTED=yes exec unshare --mount \"$0\" \"$@\"\n\
             unset MOUNTED\n\
             mount -t proc -o hidepid=invisible,subset=pid proc /proc || exit 99\n\
             exec setpriv --bounding-set=-all,+setuid,+setgid,+setpcap,+kill '{}' \"$@\"",
            shipped::proxy()
        ))
    }

    /// As this account, from this copy, which the account can reach. Needs root.
    pub fn as_account(user: &User, copy: &Path) -> Self {
        let (uid, gid, copy) = (user.uid, user.gid, copy.display());
        Self::script(&format!(
            "exec setpriv --clear-groups --reuid {uid} --regid {gid} '{copy}' \"$@\""
        ))
    }

    /// As this account, from this copy, with the default path of the control socket. Needs root.
    pub fn with_default_socket(user: &User, copy: &Path) -> Self {
        let (uid, gid, copy) = (user.uid, user.gid, copy.display());
        Self::script(&format!(
            "config=$2\nshift 4\n\
             exec setpriv --clear-groups --reuid {uid} --regid {gid} '{copy}' --config \"$config\" \"$@\""
        ))
    }

    /// Starts `program` as an ordinary user. If root runs the tests, this user is `nobody`, so every
    /// user must be able to run `program`.
    pub fn as_ordinary_user(program: &Path) -> Self {
        let program = program.display();
        if !machine::is_root() {
            return Self::script("");
        }
        // That user becomes the owner of the configuration's directory.
        Self::script(&format!(
            "chown -R 65534:65534 \"${{2%/*}}\" &&\n\
             exec setpriv --clear-groups --reuid 65534 --regid 65534 '{program}' \"$@\""
        ))
    }

    /// With at most this many file descriptors.
    pub fn with_descriptors(limit: u32) -> Self {
        Self::script(&format!("ulimit -n {limit}"))
    }

    /// With this descriptor open for writing to this file, as a careless starter may leave it.
    pub fn with_open_file(descriptor: u32, file: &Path) -> Self {
        Self::script(&format!("exec {descriptor}>'{}'", file.display()))
    }

    fn script(first: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path().join("proxy");
        let text = format!("#!/bin/sh\n{first}\nexec {} \"$@\"\n", shipped::proxy());
        // Another program writes it: a file that this process has open for writing can be
        // inherited by what another test starts at this moment, and could not be run then.
        Program::new("sh")
            .args(["-c", "cat > \"$0\" && chmod +x \"$0\""])
            .arg(&path)
            .stdin(text.as_bytes())
            .run()
            .succeeded();
        Self { directory }
    }

    /// The path of the script.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("proxy")
    }
}
