//! The package that `packaging/macos/build` has written to `target/macos`, with the real programs.

use std::process::Command;

use macos_package::archive;
use macos_package::contents::{self, Places};

use crate::contents::check;
use crate::scene::tree;

fn places() -> Places {
    let target = tree().join("target/macos");
    Places {
        programs: target.join("programs"),
        tree: tree(),
        made: target.join("made"),
    }
}

fn path() -> std::path::PathBuf {
    let name = format!("codex-network-proxy-{}.pkg", env!("CARGO_PKG_VERSION"));
    tree().join("target/macos").join(name)
}

#[test]
fn the_real_package_is_what_the_list_says_and_comes_out_the_same_again() {
    let package = std::fs::read(path()).expect("packaging/macos/build has been run");
    check(&package, &places());
    let again = archive::build(&places(), env!("CARGO_PKG_VERSION")).expect("a package");
    assert!(again == package);
}

/// libarchive knows both formats and shares no code with our readers.
#[test]
fn bsdtar_reads_the_real_package() {
    let script = "set -e; cd \"$(mktemp -d)\"; bsdtar -xf \"$1\"; \
                  bsdtar -tvf codex-network-proxy.pkg/Payload; rm -r \"$PWD\"";
    let listed = Command::new("bash")
        .args(["-c", script, "bash"])
        .arg(path())
        .output()
        .expect("bash");
    assert!(listed.status.success(), "{listed:?}");
    let listed = String::from_utf8(listed.stdout).expect("names are ASCII");
    for file in contents::files(&places()).expect("files") {
        let bits = if file.mode == 0o755 {
            "-rwxr-xr-x"
        } else {
            "-rw-r--r--"
        };
        let line = listed
            .lines()
            .find(|line| line.ends_with(&format!(" ./{}", file.to)))
            .unwrap_or_else(|| panic!("{} is missing: {listed}", file.to));
        assert!(line.starts_with(&format!("{bits}  1 0      0 ")), "{line}");
    }
}
