//! Protects this process's memory from other processes, and keeps it out of core files.
//!
//! Every role holds secrets at some time: the monitor the CA key and the environment that it was
//! started with, the loader both of these and the secret files, the worker the values that hooks
//! inject. Root, and a process with `CAP_SYS_PTRACE`, can still read any process.

use nix::sys::resource::{Resource, setrlimit};

/// Prevents other processes of the same user from tracing or dumping this one: from here on
/// `/proc/PID/mem`, `environ`, `fd` and the like belong to root. No core file is written for this
/// process or its children. Call it before anything else.
///
/// # Errors
///
/// When the system refuses.
pub(crate) fn keep_private() -> nix::Result<()> {
    // Linux checks only the first of these where it is set. It is lost when another program is
    // executed.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}
