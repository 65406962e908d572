//! Lines on standard error, many of them with one write.
//!
//! Other processes write there too: the monitor, the loader and the worker share standard error. So a
//! write never ends within a line, and is small enough that the kernel does not mix it with theirs.

use std::io;
use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};

use super::entry::Logged;
use super::format::LineFormat;
use super::outlet::{Sink, WaitingEntry};

/// Most bytes of one write to a regular file. The kernel writes them at one position.
const MAX_FILE_WRITE: usize = 64 * 1024;
/// Most bytes of one write to anything else, unless a single line is longer. A pipe takes so many bytes
/// at once (`PIPE_BUF` in `pipe(7)`; POSIX promises 512).
const MAX_PIPE_WRITE: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };

/// Writes lines.
pub(super) struct Lines {
    format: LineFormat,
    max_write: usize,
    text: Vec<u8>,
}

impl Lines {
    /// Lines in this format. It looks at standard error, so call it before the process is confined.
    pub(super) fn new(format: LineFormat) -> Self {
        let is_file = fstat(io::stderr()).is_ok_and(|stderr| {
            SFlag::from_bits_truncate(stderr.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG
        });
        Self {
            format,
            max_write: if is_file {
                MAX_FILE_WRITE
            } else {
                MAX_PIPE_WRITE
            },
            text: Vec::new(),
        }
    }

    /// Puts whole lines into the text, up to the limit of a write. Returns their number.
    fn fill(&mut self, entries: &[WaitingEntry<Logged<Vec<u8>>>]) -> usize {
        self.text.clear();
        for (number, waiting) in entries.iter().enumerate() {
            let end = self.text.len();
            match &waiting.entry {
                Logged::Event(lines) => self.text.extend_from_slice(lines),
                Logged::Audit(event) => self.format.append(event, &mut self.text),
            }
            if number > 0 && self.text.len() > self.max_write {
                self.text.truncate(end);
                return number;
            }
        }
        entries.len()
    }
}

impl Sink<Logged<Vec<u8>>> for Lines {
    fn write(&mut self, entries: &[WaitingEntry<Logged<Vec<u8>>>]) -> (usize, io::Result<()>) {
        let number = self.fill(entries);
        let outcome = write_to_stderr(&self.text);
        self.text.shrink_to(MAX_FILE_WRITE);
        (number, outcome)
    }
}

/// Writes lines without the standard library's lock, for which other threads would wait.
fn write_to_stderr(lines: &[u8]) -> io::Result<()> {
    let mut rest = lines;
    let stderr = io::stderr();
    while !rest.is_empty() {
        match nix::unistd::write(&stderr, rest) {
            Ok(written) => rest = &rest[written..],
            Err(nix::Error::EINTR) => {}
            // Another process that shares our standard error may have made it non-blocking.
            Err(nix::Error::EAGAIN) => {
                let mut room = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
                poll(&mut room, PollTimeout::NONE)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
