//! Keeps other processes out of this one's memory, and its memory out of core files.
//!
//! Every role holds secrets at some time: the monitor the CA key and the environment that it was
//! started with, the loader both and the secret files, the worker what hooks inject. Root, and a
//! process with `CAP_SYS_PTRACE`, look into any process all the same.

use nix::sys::resource::{Resource, setrlimit};

/// Makes this process one that others of the same user can neither trace nor dump: `/proc/PID/mem`,
/// `environ`, `fd` and their like belong to root from here on. No core file is written for it or
/// for what it starts. To be called before anything else.
///
/// # Errors
///
/// When the system refuses.
pub(crate) fn keep_private() -> nix::Result<()> {
    // Linux looks at the first alone where it is set; it is lost when another program is executed.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}
