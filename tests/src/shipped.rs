//! The shipped programs, as cargo has built them for these tests.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The path of the proxy.
pub fn proxy() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| find("codex-network-proxy-under-test"));
    &PATH
}

/// The path of `proxyctl`.
pub fn proxyctl() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| find("proxyctl-under-test"));
    &PATH
}

/// Puts both programs into a directory, under their own names, as a package installs them.
pub fn install(directory: &Path) {
    for (built, name) in [(proxyctl(), "proxyctl"), (proxy(), "codex-network-proxy")] {
        let to = directory.join(name);
        std::fs::hard_link(built, &to)
            .or_else(|_| std::fs::copy(built, &to).map(|_| ()))
            .unwrap_or_else(|error| panic!("{}: {error}", to.display()));
    }
}

/// Cargo names the path in a variable when it runs a test, since 1.94. Otherwise the program is in the
/// folder above the test's own.
fn find(name: &str) -> String {
    let path = std::env::var_os(format!("CARGO_BIN_EXE_{name}")).map_or_else(
        || {
            let test = std::env::current_exe().expect("a test program has a path");
            let folders = test.ancestors().skip(1).take(2);
            let mut paths = folders.map(|folder| folder.join(name));
            let found = paths.find(|path| path.exists());
            found.unwrap_or_else(|| panic!("{name} is not beside {}", test.display()))
        },
        PathBuf::from,
    );
    path.into_os_string()
        .into_string()
        .expect("cargo's paths are text")
}
