//! Writes several slices as cheaply as the kernel allows.
//!
//! For a socket, `writev` costs more than `send`. A small answer is a head and a short body, so copying both
//! into one piece is cheaper than passing both to the kernel.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Most bytes that are copied into one piece.
const MAX_COPIED: usize = 1024;

/// Writes the beginning of the slices, like `poll_write_vectored`. Returns the number of bytes written.
pub(crate) fn poll_write_slices<S: AsyncWrite + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let stream = Pin::new(stream);
    if let [slice] = slices {
        return stream.poll_write(cx, slice);
    }
    let mut piece = [0; MAX_COPIED];
    let mut length = 0;
    for slice in slices {
        let Some(room) = piece.get_mut(length..length + slice.len()) else {
            return stream.poll_write_vectored(cx, slices);
        };
        room.copy_from_slice(slice);
        length += slice.len();
    }
    stream.poll_write(cx, &piece[..length])
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Keeps each written piece apart.
    #[derive(Default)]
    struct Pieces(Vec<Vec<usize>>, Vec<u8>);

    impl AsyncWrite for Pieces {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(vec![bytes.len()]);
            self.1.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.0
                .push(slices.iter().map(|slice| slice.len()).collect());
            for slice in slices {
                self.1.extend_from_slice(slice);
            }
            Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn h1_small_slices_are_written_in_one_piece_and_large_ones_are_not_copied() {
        for (lengths, calls) in [
            (&[5][..], vec![5]),
            (&[100_000], vec![100_000]),
            (&[80, 2], vec![82]),
            (&[0, 2], vec![2]),
            (&[1000, 24], vec![1024]),
            (&[1000, 25], vec![1000, 25]),
            (&[80, 65_536, 2], vec![80, 65_536, 2]),
        ] {
            let text: Vec<u8> = (0..=u8::MAX).cycle().take(100_000).collect();
            let (mut slices, mut rest) = (Vec::new(), &text[..]);
            for length in lengths {
                let (slice, after) = rest.split_at(*length);
                slices.push(IoSlice::new(slice));
                rest = after;
            }
            let mut stream = Pieces::default();
            let written = poll_fn(|cx| poll_write_slices(&mut stream, cx, &slices)).await;
            let whole: usize = lengths.iter().sum();
            assert_eq!(written.expect("written"), whole);
            assert_eq!(stream.0, [calls], "{lengths:?}");
            assert_eq!(stream.1, text[..whole], "{lengths:?}");
        }
    }
}
