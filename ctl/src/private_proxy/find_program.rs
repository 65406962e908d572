//! Finds the program of the proxy: beside `proxyctl`, then in `PATH` (SPEC J3).

use std::env;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

use crate::system_tool;

const NAME: &str = "codex-network-proxy";

/// The path of the program. Root's `PATH` survives `su`, so for root only the system's directories count.
///
/// # Errors
///
/// A sentence that says where it was looked for.
pub(super) fn find() -> Result<PathBuf, String> {
    let own = env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent);
    let path = if Uid::effective().is_root() {
        system_tool::DIRECTORIES.into()
    } else {
        env::var_os("PATH").unwrap_or_default()
    };
    let in_path: Vec<PathBuf> = env::split_paths(&path).collect();
    let mut places = beside.into_iter().map(Path::to_owned).chain(in_path);
    places
        .find_map(|place| {
            let program = place.join(NAME);
            is_program(&program).then_some(program)
        })
        .ok_or_else(|| {
            format!(
                "no service answers, and {NAME} is neither beside proxyctl nor in PATH; install it, or start \
                 the service"
            )
        })
}

fn is_program(path: &Path) -> bool {
    // A relative entry of PATH depends on the working directory.
    path.is_absolute()
        && path
            .metadata()
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}
