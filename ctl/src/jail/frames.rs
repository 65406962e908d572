//! The messages between `proxyctl` and its stages, over a unix stream socket.
//!
//! A frame is one byte for its kind, four bytes of length, and that many bytes. Descriptors travel with
//! the first byte. Both sides are this program, but the stage's other end is read by process 1 of the
//! jail: lengths are checked all the same.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Most descriptors in one frame.
const MAX_DESCRIPTORS: usize = 32;
/// Longest payload: the arguments and the environment of a command, which Linux limits to 6 MiB.
const MAX_PAYLOAD: usize = 8 << 20;
/// Bytes before a payload.
const HEAD: usize = 5;

/// The meaning of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// To the stage: the plan as JSON, with standard input.
    Plan = 1,
    /// From the stage: the user namespace exists, its maps are empty.
    Unshared,
    /// To the stage: the maps are written (payload 1), or the stage writes them (0).
    Mapped,
    /// From the stage: the doors as JSON, with their listeners.
    Doors,
    /// From the stage: the other side of the command's own terminal, as a descriptor.
    Terminal,
    /// From the stage: why it failed, as text.
    Failed,
    /// To the stage: the command and its environment.
    Start,
    /// To the stage: a signal for the command.
    Signal,
    /// From the stage: the command was stopped by a signal.
    Stopped,
    /// From the stage: the command exited with a status.
    Exited,
    /// From the stage: a signal ended the command.
    Killed,
    /// From the stage: the command could not be started, with the number of the error.
    NotStarted,
}

/// One frame.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) payload: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        const KINDS: [Kind; 12] = [
            Kind::Plan,
            Kind::Unshared,
            Kind::Mapped,
            Kind::Doors,
            Kind::Terminal,
            Kind::Failed,
            Kind::Start,
            Kind::Signal,
            Kind::Stopped,
            Kind::Exited,
            Kind::Killed,
            Kind::NotStarted,
        ];
        KINDS.into_iter().find(|kind| *kind as u8 == byte)
    }
}

impl Frame {
    /// The number that is the payload.
    pub(super) fn number(&self) -> io::Result<i32> {
        let bytes = self.payload.as_slice().try_into();
        Ok(i32::from_le_bytes(bytes.map_err(|_| malformed())?))
    }
}

/// Sends a frame.
pub(super) fn send(
    mut stream: &UnixStream,
    kind: Kind,
    payload: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut bytes = Vec::with_capacity(HEAD + payload.len());
    bytes.push(kind as u8);
    bytes.extend(length.to_le_bytes());
    bytes.extend(payload);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = rustix::io::retry_on_intr(|| {
        sendmsg(
            stream.as_fd(),
            &[IoSlice::new(&bytes)],
            &mut beside,
            SendFlags::NOSIGNAL,
        )
    })?;
    stream.write_all(&bytes[sent..])
}

/// Sends a number.
pub(super) fn send_number(stream: &UnixStream, kind: Kind, number: i32) -> io::Result<()> {
    send(stream, kind, &number.to_le_bytes(), &[])
}

/// Waits for a frame; `None` when the other side is gone.
pub(super) fn receive(mut stream: &UnixStream) -> io::Result<Option<Frame>> {
    let mut head = [0; HEAD];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(
            stream.as_fd(),
            &mut [IoSliceMut::new(&mut head)],
            &mut beside,
            RecvFlags::CMSG_CLOEXEC,
        )
    });
    let read = match received {
        Ok(received) => received.bytes,
        // The other process ended with bytes unread.
        Err(rustix::io::Errno::CONNRESET) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut descriptors = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if read == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut head[read..])?;
    let [kind, length @ ..] = head;
    let length = u32::from_le_bytes(length) as usize;
    let kind = Kind::of(kind).ok_or_else(malformed)?;
    if length > MAX_PAYLOAD {
        return Err(malformed());
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok(Some(Frame {
        kind,
        payload,
        descriptors,
    }))
}

/// A list of texts, each with its length.
pub(super) fn write_texts(texts: &[OsString]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for text in texts {
        let length = u32::try_from(text.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        bytes.extend(length.to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    if bytes.len() > MAX_PAYLOAD {
        return Err(io::ErrorKind::ArgumentListTooLong.into());
    }
    Ok(bytes)
}

/// Reads [`write_texts`].
pub(super) fn read_texts(mut bytes: &[u8]) -> io::Result<Vec<OsString>> {
    let mut texts = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk().ok_or_else(malformed)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (text, rest) = rest.split_at_checked(length).ok_or_else(malformed)?;
        texts.push(OsString::from_vec(text.to_vec()));
        bytes = rest;
    }
    Ok(texts)
}

pub(super) fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a malformed message")
}
