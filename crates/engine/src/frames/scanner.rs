//! Finds the frames in the bytes of one direction of an HTTP/2 connection. The bytes may arrive in any
//! pieces.

/// Bytes of a frame before its payload (RFC 9113 section 4.1).
const HEAD_LENGTH: usize = 9;

/// The header of a frame (RFC 9113 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) kind: u8,
    /// Bytes of the payload.
    pub(super) length: u32,
    pub(super) stream: u32,
}

/// The position in the stream.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// Bytes to skip before the next frame begins: of the preface, or of a payload.
    skip: usize,
    head: [u8; HEAD_LENGTH],
    /// How many bytes of `head` there are.
    filled: usize,
}

impl Scanner {
    /// A scanner for a stream that begins with this many other bytes.
    pub(super) fn after(skip: usize) -> Self {
        Self {
            skip,
            ..Self::default()
        }
    }

    /// The next frame that begins in the bytes. Consumes the bytes up to its payload. `None`: all bytes
    /// are consumed.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Option<FrameHead> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        let wanted = HEAD_LENGTH - self.filled;
        let (taken, rest) = bytes[skipped..].split_at(wanted.min(bytes.len() - skipped));
        *bytes = rest;
        self.head[self.filled..self.filled + taken.len()].copy_from_slice(taken);
        self.filled += taken.len();
        if self.filled < HEAD_LENGTH {
            return None;
        }
        self.filled = 0;
        let [a, b, c, kind, _, stream @ ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        self.skip = length as usize;
        Some(FrameHead {
            kind,
            length,
            // The highest bit is reserved.
            stream: u32::from_be_bytes(stream) & (u32::MAX >> 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m6_frames_are_found_in_any_pieces() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let preface = bytes.len();
        let frames = [
            (4, 0),
            (0, 300),
            (8, 4),
            (6, 8),
            (0, 0),
            (9, 70_000),
            (1, 1),
        ];
        for (kind, length) in frames {
            bytes.extend(&u32::to_be_bytes(length)[1..]);
            bytes.extend([kind, 0xff, 0x80, 0, 1, kind]);
            bytes.extend(vec![0xff; length as usize]);
        }
        for cut in [1, 2, 3, 7, 8, 9, 10, 24, 25, 1000, bytes.len()] {
            let mut scanner = Scanner::after(preface);
            let mut found = Vec::new();
            for mut part in bytes.chunks(cut) {
                while let Some(head) = scanner.next(&mut part) {
                    assert_eq!(head.stream, 0x100 + u32::from(head.kind));
                    found.push((head.kind, head.length));
                }
            }
            assert_eq!(found, frames, "{cut}");
        }
    }
}
