//! `codex-network-proxy`: see the library of the same package.

use std::process::ExitCode;

use codex_network_proxy::ProgramAllocator;

#[global_allocator]
static ALLOCATOR: ProgramAllocator = ProgramAllocator;

fn main() -> ExitCode {
    codex_network_proxy::main()
}
