//! The memory of frames. A frame may hold real values of credentials (SPEC B4), so its bytes are overwritten
//! before their memory is freed, also where a buffer moves because it grows.

use std::io;

use bytes::BytesMut;
use zeroize::Zeroize as _;

/// Smallest room of a buffer that grows.
const MIN_ROOM: usize = 1024;

/// Writes to the end of a buffer.
pub(super) struct FrameWriter<'b>(pub(super) &'b mut BytesMut);

/// Overwrites a frame that was taken from a buffer, when it is dropped.
pub(super) struct ReadFrame(pub(super) BytesMut);

/// Makes room for this many further bytes. A buffer that has too little moves, and its old memory is overwritten.
pub(super) fn with_room(buffer: &mut BytesMut, further: usize) {
    if buffer.capacity() - buffer.len() >= further {
        return;
    }
    let mut larger = BytesMut::with_capacity(buffer.len() + further);
    larger.extend_from_slice(buffer);
    wipe(buffer);
    *buffer = larger;
}

/// Empties a buffer and frees it, after all of its memory was overwritten: also the part before the bytes that it
/// still holds, which were written or read already.
pub(super) fn wipe(buffer: &mut BytesMut) {
    buffer.clear();
    // Consumed bytes are in front. One byte more than is left can be had only with them.
    let _ = buffer.try_reclaim(buffer.capacity() + 1);
    buffer.resize(buffer.capacity(), 0);
    buffer.as_mut().zeroize();
    *buffer = BytesMut::new();
}

impl io::Write for FrameWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let buffer = &mut *self.0;
        if buffer.capacity() - buffer.len() < bytes.len() {
            with_room(buffer, bytes.len().max(buffer.len()).max(MIN_ROOM));
        }
        buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ReadFrame {
    fn drop(&mut self) {
        self.0.as_mut().zeroize();
    }
}
