//! The system calls of a stage that no crate offers as safe functions.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, Pid};

/// The kernel's number, which the library lacks. The same on all architectures but PA-RISC and SPARC.
const SO_NETNS_COOKIE: libc::c_int = 71;
/// The kernel's number, which the library lacks.
const SIOCUNIXFILE: libc::Ioctl = 0x89e0;

/// Forks. Returns the child's number in the parent, and `None` in the child. A process with other threads must not call
/// it.
#[expect(
    unsafe_code,
    reason = "only a process of one thread may go on after a fork"
)]
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: a stage has one thread, and so has `proxyctl run` until its jail is made, so that no lock is held by a thread
    // that the child lacks.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Closes every descriptor from this number on. After a fork, the child must not drop what it has of its parent.
#[expect(unsafe_code, reason = "the descriptors' owners must be gone")]
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: a stage calls this before it opens anything, so that no value of this program owns one of
    // these descriptors. A forked child drops none of its parent's values. The call touches no memory.
    let outcome = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes the kernel pass each `connect` of this process, and of every process that it starts, to the
/// holder of the returned listener (`seccomp_unotify(2)`). Needs `no_new_privs`.
#[expect(unsafe_code, reason = "no crate installs a filter that has a listener")]
pub(super) fn listen_for_connects() -> io::Result<OwnedFd> {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter {
        code: u16::try_from(code).unwrap_or(u16::MAX),
        jt,
        jf,
        k,
    };
    let connect = u32::try_from(libc::SYS_connect).map_err(io::Error::other)?;
    // The programs of `confine` refuse other architectures, and their answer prevails.
    let mut instructions = [
        // The number of the call is the first field of `struct seccomp_data`.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, connect),
        instruction(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_USER_NOTIF,
        ),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: 4,
        filter: instructions.as_mut_ptr(),
    };
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // From Linux 5.19 on, only a fatal signal interrupts a call that was received.
    let whole = listener | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let mut outcome = Err(io::ErrorKind::Unsupported.into());
    for flags in [whole, listener] {
        // SAFETY: `program` and its instructions live across the call, which only reads them.
        let made = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const program,
            )
        };
        outcome = match i32::try_from(made) {
            // SAFETY: the kernel has just made this descriptor, which has no other owner.
            Ok(made) if made >= 0 => return Ok(unsafe { OwnedFd::from_raw_fd(made) }),
            _ => Err(io::Error::last_os_error()),
        };
    }
    outcome
}

/// Wakes the receiver of a listener on the caller's processor, and the caller on the receiver's
/// (Linux 6.6).
#[expect(unsafe_code, reason = "no crate has this request")]
pub(super) fn wake_nearby(listener: BorrowedFd<'_>) {
    // SAFETY: the request takes a number.
    let _ = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS,
            1_u64,
        )
    };
}

/// Waits for the next call of a listener.
#[expect(unsafe_code, reason = "no crate has this request")]
pub(super) fn receive(listener: BorrowedFd<'_>) -> io::Result<libc::seccomp_notif> {
    let mut call = libc::seccomp_notif {
        id: 0,
        pid: 0,
        flags: 0,
        data: libc::seccomp_data {
            nr: 0,
            arch: 0,
            instruction_pointer: 0,
            args: [0; 6],
        },
    };
    // SAFETY: the number of the request contains the size of this struct, which is zero, as the kernel
    // requires, and which the kernel writes.
    let outcome = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            &raw mut call,
        )
    };
    succeeded(outcome).map(|()| call)
}

/// Whether the caller still waits for the answer to this call.
#[expect(unsafe_code, reason = "no crate has this request")]
pub(super) fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads one number of eight bytes.
    let outcome = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_ID_VALID,
            &raw const id,
        )
    };
    outcome == 0
}

/// Ends a call with 0 or an error. The caller may be gone.
#[expect(unsafe_code, reason = "no crate has this request")]
pub(super) fn answer(listener: BorrowedFd<'_>, id: u64, outcome: Result<(), Errno>) {
    let mut answer = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: outcome.err().map_or(0, |error| -(error as i32)),
        flags: 0,
    };
    // SAFETY: the number of the request contains the size of this struct.
    let _ = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw mut answer,
        )
    };
}

/// Fills a buffer from the memory of another thread.
#[expect(
    unsafe_code,
    reason = "the safe form is behind a feature that every crate would get"
)]
pub(super) fn read_memory(thread: Pid, address: u64, buffer: &mut [u8]) -> Result<(), Errno> {
    let length = buffer.len();
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: length,
    };
    let remote = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(
            usize::try_from(address).map_err(|_| Errno::EFAULT)?,
        ),
        iov_len: length,
    };
    // SAFETY: the kernel writes at most `length` bytes to `buffer`. The other address is not used in
    // this process.
    let read = unsafe {
        libc::process_vm_readv(
            thread.as_raw(),
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    };
    if usize::try_from(read) == Ok(length) {
        Ok(())
    } else {
        Err(Errno::EFAULT)
    }
}

/// Connects a socket to an address of any family, as its bytes are.
#[expect(unsafe_code, reason = "the safe forms parse the address")]
pub(super) fn connect(socket: BorrowedFd<'_>, address: &[u8]) -> Result<(), Errno> {
    let length = u32::try_from(address.len()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel copies `length` bytes, and gives them a meaning only after that.
    let outcome = unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), length) };
    Errno::result(outcome).map(drop)
}

/// The number of a socket's network namespace, which no other one has had or will have (Linux 5.14).
#[expect(unsafe_code, reason = "no crate has this option")]
pub(super) fn network_of(socket: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: the kernel writes at most `length` bytes, the size of `cookie`.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    Errno::result(outcome).map(|_| cookie)
}

/// Opens the file that a unix socket is bound to, with `O_PATH` (`SIOCUNIXFILE`).
#[expect(unsafe_code, reason = "no crate has this request")]
pub(super) fn file_of(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // SAFETY: the request takes no argument.
    let opened = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCUNIXFILE) };
    let opened = Errno::result(opened)?;
    // SAFETY: the kernel has just made this descriptor, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(opened) })
}

fn succeeded(outcome: libc::c_int) -> io::Result<()> {
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives SIGCHLD its default action. A caller that ignores it would make the kernel reap the children.
#[expect(unsafe_code, reason = "a signal handler may be unsound")]
pub(super) fn keep_children() -> io::Result<()> {
    // SAFETY: the default action runs no code of this program.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
    Ok(())
}
