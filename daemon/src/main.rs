//! `codex-network-proxy`: see the library of the same package.

use std::process::ExitCode;

fn main() -> ExitCode {
    codex_network_proxy::main()
}
