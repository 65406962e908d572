//! Protects this process's memory from other processes, keeps it out of core files, and gives back
//! what a large policy has left.
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
/// Returns an error if the system refuses.
pub(crate) fn keep_private() -> nix::Result<()> {
    // While the first is set, Linux ignores the second. Executing another program resets the first.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}

/// Bounds the freed memory that the allocator keeps at the end of each of its heaps. By default the
/// bound grows with the largest freed allocation, and [`give_back`] does not reach that memory. Call it
/// before there are threads.
pub(crate) fn bound_reserve() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    gnu::bound_reserve();
}

/// Returns freed memory to the system. An allocator keeps it for later allocations, but after a
/// large policy was freed none follow. The call takes milliseconds then, and much less otherwise.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    gnu::give_back();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "nix has neither mallopt nor malloc_trim")]
mod gnu {
    use nix::libc::{M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, malloc_trim, mallopt};

    /// Allocations from this size on are returned when they are freed.
    const MMAP_THRESHOLD: i32 = 1 << 20;
    /// Most freed memory at the end of a heap.
    const TRIM_THRESHOLD: i32 = 2 << 20;

    pub(super) fn bound_reserve() {
        // SAFETY: both take numbers only, and no other thread allocates yet (mallopt(3)). A refusal
        // leaves the defaults.
        unsafe {
            mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
            mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD);
        }
    }

    pub(super) fn give_back() {
        // SAFETY: it takes no pointer, may be called at any time from any thread, and touches no
        // memory in use (malloc_trim(3), "MT-Safe").
        let _ = unsafe { malloc_trim(0) };
    }
}
