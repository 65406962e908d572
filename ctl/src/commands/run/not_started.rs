//! Why a command did not start, in words for a person.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// One line about a command that the kernel did not execute.
pub(super) fn message(command: &OsStr, error: &io::Error) -> String {
    let name = command.to_string_lossy();
    if command.is_empty() {
        return "the name of the command is empty".to_owned();
    }
    // Only a name with a slash is a path. Others are looked up in PATH.
    let is_path = command.as_bytes().contains(&b'/');
    let file = is_path.then(|| Path::new(command).metadata().ok());
    let file = file.flatten();
    match (error.kind(), file) {
        (io::ErrorKind::NotFound, Some(_)) => format!(
            "{name}: cannot be started: the program that its first line names, or its loader, does not exist"
        ),
        (io::ErrorKind::NotFound, None) if is_path => format!("{name}: there is no such file"),
        (io::ErrorKind::NotFound, None) => {
            format!("{name}: command not found in the directories of PATH")
        }
        (io::ErrorKind::PermissionDenied, Some(file)) if file.is_dir() => {
            format!("{name}: cannot be started: it is a directory")
        }
        (io::ErrorKind::PermissionDenied, Some(file)) if file.permissions().mode() & 0o111 == 0 => {
            format!("{name}: cannot be started: it is not executable (chmod +x)")
        }
        _ => format!("{name}: cannot be started: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j1_a_command_that_does_not_start_has_its_reason() {
        let folder = tempfile::tempdir().expect("a directory");
        let script = folder.path().join("script");
        std::fs::write(&script, "#!/nonexistent/sh\n").expect("our own directory");
        let script = script.as_os_str();
        for (command, kind, wanted) in [
            (OsStr::new(""), io::ErrorKind::NotFound, "is empty"),
            (
                OsStr::new("nosuch"),
                io::ErrorKind::NotFound,
                "in the directories of PATH",
            ),
            (
                OsStr::new("/nosuch"),
                io::ErrorKind::NotFound,
                "no such file",
            ),
            (script, io::ErrorKind::NotFound, "its first line"),
            (script, io::ErrorKind::PermissionDenied, "chmod +x"),
            (
                OsStr::new("/"),
                io::ErrorKind::PermissionDenied,
                "a directory",
            ),
            (
                OsStr::new("x"),
                io::ErrorKind::PermissionDenied,
                "permission denied",
            ),
        ] {
            let said = message(command, &kind.into());
            assert!(said.contains(wanted), "{command:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
}
