//! Frames and descriptors over a unix socket.
//!
//! A frame is one byte for the operation, four bytes of length, and that many bytes. Lengths are
//! checked before anything is allocated. Descriptors travel with the first byte of a frame; a
//! receiver that expects none closes them.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recv, recvmsg, sendmsg};
use parking_lot::Mutex;

/// Most descriptors in one frame: the settings, the files of the system, one for each listener, and
/// the control socket.
pub(crate) const MAX_DESCRIPTORS: usize = 8;
/// Bytes before a frame's payload.
const HEAD: usize = 5;

/// One frame.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The operation.
    pub(crate) operation: u8,
    pub(crate) payload: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// The sending half. Clones send whole frames, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Sender(Arc<Mutex<UnixStream>>);

/// The receiving half, with the longest payload that it accepts.
#[derive(Debug)]
pub(crate) struct Receiver {
    stream: UnixStream,
    longest: usize,
    /// How many descriptors are kept free for the next frame.
    to_reserve: usize,
    /// Copies of the socket, closed when a frame arrives.
    reserve: Vec<OwnedFd>,
}

/// Splits a connected socket into its halves.
pub(crate) fn split(stream: UnixStream, longest: usize) -> io::Result<(Sender, Receiver)> {
    let sending = stream.try_clone()?;
    Ok((
        Sender(Arc::new(Mutex::new(sending))),
        Receiver {
            stream,
            longest,
            to_reserve: 0,
            reserve: Vec::new(),
        },
    ))
}

impl Sender {
    /// Sends a frame. Blocks until the other side has taken it.
    pub(crate) fn send(
        &self,
        operation: u8,
        payload: &[u8],
        descriptors: &[RawFd],
    ) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut head = [operation; HEAD];
        head[1..].copy_from_slice(&length.to_le_bytes());
        let mut stream = self.0.lock();
        // The confined worker has no `sendmsg`, so its messages have no descriptors.
        let sent = if descriptors.is_empty() {
            0
        } else {
            send_with(&stream, &head, descriptors)?
        };
        stream.write_all(&head[sent..])?;
        stream.write_all(payload)
    }
}

/// Sends the first bytes, or some of them, with descriptors beside them.
fn send_with(stream: &UnixStream, head: &[u8], descriptors: &[RawFd]) -> io::Result<usize> {
    loop {
        match sendmsg::<()>(
            stream.as_raw_fd(),
            &[IoSlice::new(head)],
            &[ControlMessage::ScmRights(descriptors)],
            MsgFlags::empty(),
            None,
        ) {
            Err(nix::Error::EINTR) => {}
            sent => return Ok(sent?),
        }
    }
}

impl Receiver {
    /// Keeps descriptors free for those of a frame. The kernel drops a frame's descriptors when the
    /// process has as many as it may have, and connections of clients can take all others.
    pub(crate) fn reserving_descriptors(mut self) -> Self {
        self.to_reserve = MAX_DESCRIPTORS;
        self.fill_reserve();
        self
    }

    /// Waits for a frame; `None` when the other side is gone.
    ///
    /// # Errors
    ///
    /// `InvalidData` for a frame that is too long, else the system's error.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Frame>> {
        let mut head = [0; HEAD];
        self.fill_reserve();
        if !self.reserve.is_empty() {
            self.wait_for_bytes();
            self.reserve.clear();
        }
        let (read, descriptors) = self.receive_first(&mut head)?;
        self.fill_reserve();
        if read == 0 {
            return Ok(None);
        }
        self.stream.read_exact(&mut head[read..])?;
        let [operation, length @ ..] = head;
        let length = u32::from_le_bytes(length) as usize;
        if length > self.longest {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a frame is longer than it may be",
            ));
        }
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        Ok(Some(Frame {
            operation,
            payload,
            descriptors,
        }))
    }

    /// Waits until the other side is gone, and ignores what it sends.
    pub(crate) fn wait_for_the_end(mut self) {
        // A failure is an end too.
        let _ = io::copy(&mut self.stream, &mut io::sink());
    }

    /// Takes free descriptors. If there are too few, the next call takes the rest.
    fn fill_reserve(&mut self) {
        while self.reserve.len() < self.to_reserve {
            let Ok(copy) = self.stream.as_fd().try_clone_to_owned() else {
                return;
            };
            self.reserve.push(copy);
        }
    }

    /// Waits until something can be read. The reader reports an error.
    fn wait_for_bytes(&self) {
        let peek = || recv(self.stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK);
        while peek() == Err(nix::Error::EINTR) {}
    }

    /// Reads the beginning of a frame, and the descriptors that come with it.
    fn receive_first(&mut self, head: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let mut space = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
        loop {
            let mut buffers = [IoSliceMut::new(head)];
            let flags = close_on_exec();
            let message = match recvmsg::<()>(
                self.stream.as_raw_fd(),
                &mut buffers,
                Some(&mut space),
                flags,
            ) {
                Err(nix::Error::EINTR) => continue,
                message => message?,
            };
            let mut descriptors = Vec::new();
            for control in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(raw) = control {
                    descriptors.extend(raw.into_iter().map(own));
                }
            }
            return Ok((message.bytes, descriptors));
        }
    }
}

/// Received descriptors must not be inherited by other programs.
fn close_on_exec() -> MsgFlags {
    #[cfg(target_os = "linux")]
    return MsgFlags::MSG_CMSG_CLOEXEC;
    // The other systems have no such flag; the worker, which receives, starts no programs.
    #[cfg(not(target_os = "linux"))]
    return MsgFlags::empty();
}

/// Marks every descriptor but the standard three to be closed in programs that this process starts.
/// Descriptors that the starter left open must not reach a process that talks to the network. Other
/// roles get theirs explicitly.
pub(crate) fn keep_descriptors_to_ourselves() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if mark_all() {
        return Ok(());
    }
    // Kernels before Linux 5.11, and other systems.
    let open: Vec<RawFd> = std::fs::read_dir("/dev/fd")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in open {
        mark(descriptor)?;
    }
    Ok(())
}

/// `close_range(2)`; false where the kernel does not know it.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "nix has no close_range")]
fn mark_all() -> bool {
    use nix::libc;
    // SAFETY: with this flag the call closes nothing and touches no memory.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    outcome == 0
}

#[expect(unsafe_code, reason = "nix's fcntl takes no descriptor by number")]
fn mark(descriptor: RawFd) -> io::Result<()> {
    use nix::libc;
    // SAFETY: the call touches no memory, and closes nothing in this program.
    let outcome = unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    let error = io::Error::last_os_error();
    // The directory's own descriptor was in it, and is closed by now.
    if outcome == 0 || error.raw_os_error() == Some(libc::EBADF) {
        Ok(())
    } else {
        Err(error)
    }
}

/// Takes ownership of a descriptor that came to this process by number: received on a channel, or
/// left by the service manager. Call it once for each.
#[expect(
    unsafe_code,
    reason = "the standard library cannot take descriptors over by number"
)]
pub(crate) fn own(raw: RawFd) -> OwnedFd {
    // SAFETY: the callers have the number from the kernel, or from the service manager's protocol.
    // Both make a new descriptor for this process alone.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd as _;

    use super::*;

    fn pair(longest: usize) -> (Sender, UnixStream, Receiver) {
        let (a, b) = UnixStream::pair().unwrap();
        let (sender, _) = split(a.try_clone().unwrap(), longest).unwrap();
        let (_, receiver) = split(b, longest).unwrap();
        (sender, a, receiver)
    }

    #[test]
    fn frames_and_descriptors_arrive_as_they_were_sent() {
        let (sender, _raw, mut receiver) = pair(100);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello").unwrap();
        sender.send(7, b"payload", &[file.as_raw_fd()]).unwrap();
        sender.send(8, b"", &[]).unwrap();
        let frame = receiver.receive().unwrap().unwrap();
        assert_eq!(
            (frame.operation, frame.payload.as_slice()),
            (7, &b"payload"[..])
        );
        let [descriptor] = <[OwnedFd; 1]>::try_from(frame.descriptors).unwrap();
        let mut content = String::new();
        let mut passed = File::from(descriptor);
        io::Seek::rewind(&mut passed).unwrap();
        passed.read_to_string(&mut content).unwrap();
        assert_eq!(content, "hello");
        let frame = receiver.receive().unwrap().unwrap();
        assert_eq!(
            (
                frame.operation,
                frame.payload.len(),
                frame.descriptors.len()
            ),
            (8, 0, 0)
        );
    }

    #[test]
    fn descriptors_are_marked_one_by_one_where_the_kernel_cannot_do_it_at_once() {
        use nix::fcntl::{FcntlArg, FdFlag, fcntl};
        let file = tempfile::tempfile().unwrap();
        fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        mark(file.as_raw_fd()).unwrap();
        let flags = fcntl(&file, FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, FdFlag::FD_CLOEXEC.bits());
        mark(RawFd::MAX).unwrap();
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_before_it_is_read() {
        let (sender, _raw, mut receiver) = pair(4);
        sender.send(1, b"12345", &[]).unwrap();
        assert_eq!(
            receiver.receive().unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn every_prefix_of_a_frame_ends_in_an_error_or_in_nothing() {
        let frame = [1, 3, 0, 0, 0, b'a', b'b', b'c'];
        for end in 0..frame.len() {
            let (sender, mut raw, mut receiver) = pair(10);
            raw.write_all(&frame[..end]).unwrap();
            drop((sender, raw));
            match receiver.receive() {
                Ok(None) => assert_eq!(end, 0),
                Ok(Some(frame)) => panic!("{frame:?} out of {end} bytes"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{end}"),
            }
        }
    }
}
