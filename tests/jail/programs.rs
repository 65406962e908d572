//! The programs of `programs.c`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), all).expect("our own folder");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/jail/programs.c");
    let compiled = Command::new("cc")
        .args(["-O1", "-Wall", "-Werror", "-o"])
        .args([folder.path().join("programs").as_path(), Path::new(source)])
        .status();
    assert!(compiled.expect("a C compiler").success());
    folder
});

/// The path of all of them.
pub(crate) fn programs() -> String {
    let path = FOLDER.path().join("programs");
    path.into_os_string().into_string().expect("a plain path")
}
