//! Protects this process's memory from other processes, keeps it out of core files, and gives back
//! memory that was needed only for the start or for an earlier policy.
//!
//! Every role holds secrets at some time: the monitor the CA key and the environment that it was
//! started with, the loader both of these and the secret files, the worker the values that hooks
//! inject. Root, and a process with `CAP_SYS_PTRACE`, can still read any process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

use codex_network_engine::FIELD_TABLE;
use nix::sys::resource::{Resource, setrlimit};

/// Whether freed memory is overwritten.
static WIPES: AtomicBool = AtomicBool::new(false);

/// The allocator of the program: that of the system. From the first credential on, it overwrites memory that is freed. The
/// libraries for HTTP and TLS copy the values of credentials into buffers of theirs, and do not overwrite them. Only
/// the parser's tables stay as they are ([`FIELD_TABLE`]): to overwrite two for each answer would displace all that the
/// processor has in its fastest cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProgramAllocator;

/// Overwrites memory that is freed from now on.
pub(crate) fn wipe_freed() {
    WIPES.store(true, Ordering::Relaxed);
}

fn wipes() -> bool {
    WIPES.load(Ordering::Relaxed)
}

#[expect(unsafe_code, reason = "an allocator has no safe interface")]
// SAFETY: each block is one of `System`, which gets the layout that the caller gave.
unsafe impl GlobalAlloc for ProgramAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if wipes() && layout != FIELD_TABLE {
            // SAFETY: the block has this size, and nothing else uses it any more.
            unsafe { block.write_bytes(0, layout.size()) };
            // Otherwise the compiler may leave the write out: nothing reads the block.
            black_box(block);
        }
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !wipes() {
            // SAFETY: as above.
            return unsafe { System.realloc(block, layout, size) };
        }
        // The system's may move the block and leave a copy behind.
        // SAFETY: the caller promises that the size is valid for this alignment, and is not zero. The blocks do
        // not overlap, and both have at least the bytes that are copied.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

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

/// Returns the memory that only the start of this role needed: freed memory, and pages of the program's
/// code. When a page of code is used again, the kernel maps it from its cache. Call it once, when the start
/// is complete.
pub(crate) fn give_back_after_start() {
    give_back();
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    gnu::unmap_code();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(
    unsafe_code,
    reason = "nix has neither mallopt nor malloc_trim, and no safe dl_iterate_phdr and madvise"
)]
mod gnu {
    use std::ffi::{c_int, c_void};
    use std::ptr::null_mut;

    use nix::libc::{
        M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, MADV_DONTNEED, PF_W, PT_LOAD, dl_iterate_phdr,
        dl_phdr_info, madvise, malloc_trim, mallopt,
    };

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

    pub(super) fn unmap_code() {
        // SAFETY: the callback has the required type, and takes no data.
        unsafe { dl_iterate_phdr(Some(unmap_read_only), null_mut()) };
    }

    /// Unmaps the pages of the read-only segments of the program, and ends the iteration: the program
    /// comes before its libraries.
    unsafe extern "C" fn unmap_read_only(
        program: *mut dl_phdr_info,
        _size: usize,
        _data: *mut c_void,
    ) -> c_int {
        const PAGE: usize = 4096;
        // SAFETY: the loader passes a valid description, with as many headers as it says.
        let (start, headers) = unsafe {
            let program = &*program;
            let count = usize::from(program.dlpi_phnum);
            let headers = std::slice::from_raw_parts(program.dlpi_phdr, count);
            (program.dlpi_addr, headers)
        };
        for header in headers {
            if header.p_type != PT_LOAD || header.p_flags & PF_W != 0 {
                continue;
            }
            let (Ok(from), Ok(length)) = (
                usize::try_from(start + header.p_vaddr),
                usize::try_from(header.p_memsz),
            ) else {
                continue;
            };
            let aligned = from & !(PAGE - 1);
            // SAFETY: this process never writes to these pages, so the file has the same content, from
            // which the kernel maps them again (madvise(2)). If the pages are larger and the address is
            // not aligned, it changes nothing.
            unsafe {
                madvise(
                    std::ptr::with_exposed_provenance_mut(aligned),
                    length + (from - aligned),
                    MADV_DONTNEED,
                );
            }
        }
        1
    }
}
