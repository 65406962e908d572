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
    /// The end of each entry in `text`.
    ends: Vec<usize>,
    /// Whether the last write broke off within a line.
    is_torn: bool,
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
            ends: Vec::new(),
            is_torn: false,
        }
    }

    /// Puts whole lines into the text, up to the limit of a write. Returns the number of entries.
    fn fill(&mut self, entries: &[WaitingEntry<Logged<Vec<u8>>>]) -> usize {
        self.text.clear();
        self.ends.clear();
        if self.is_torn {
            self.text.push(b'\n');
        }
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
            self.ends.push(self.text.len());
        }
        entries.len()
    }

    /// Writes the first entries. `write` returns how many bytes it has written too. If it fails, the entries
    /// that are whole count as accepted.
    fn write_with(
        &mut self,
        entries: &[WaitingEntry<Logged<Vec<u8>>>],
        write: impl FnOnce(&[u8]) -> (usize, io::Result<()>),
    ) -> (usize, io::Result<()>) {
        let number = self.fill(entries);
        let (written, outcome) = write(&self.text);
        if let Some(last) = self.text[..written].last() {
            self.is_torn = *last != b'\n';
        }
        match (outcome, self.ends.partition_point(|end| *end <= written)) {
            (Err(_), whole) if whole > 0 => (whole, Ok(())),
            (outcome, _) => (number, outcome),
        }
    }
}

impl Sink<Logged<Vec<u8>>> for Lines {
    fn write(&mut self, entries: &[WaitingEntry<Logged<Vec<u8>>>]) -> (usize, io::Result<()>) {
        let written = self.write_with(entries, write_to_stderr);
        self.text.shrink_to(MAX_FILE_WRITE);
        written
    }
}

/// Writes lines without the standard library's lock, for which other threads would wait. Returns how many
/// bytes were written, and the error if these are not all.
fn write_to_stderr(lines: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    let stderr = io::stderr();
    while written < lines.len() {
        let outcome = match nix::unistd::write(&stderr, &lines[written..]) {
            Ok(more) => {
                written += more;
                Ok(())
            }
            Err(nix::Error::EINTR) => Ok(()),
            // Another process that shares our standard error may have made it non-blocking.
            Err(nix::Error::EAGAIN) => {
                let mut room = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
                poll(&mut room, PollTimeout::NONE).map(drop)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            return (written, Err(error.into()));
        }
    }
    (written, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full disk takes a part of a write.
    #[test]
    fn r4_a_write_that_breaks_off_loses_the_torn_line_alone() {
        let mut lines = Lines::new(LineFormat::Text);
        let entry = |line: &str| WaitingEntry::new(Logged::Event(line.as_bytes().to_vec()));
        let entries = ["one\n", "two\n", "three\n"].map(entry);
        let full = || Err(io::ErrorKind::StorageFull.into());
        let mut file = Vec::new();
        let mut take = |entries: &[_], room: usize| {
            let (number, outcome) = lines.write_with(entries, |text| {
                let written = room.min(text.len());
                file.extend_from_slice(&text[..written]);
                let outcome = if written < text.len() { full() } else { Ok(()) };
                (written, outcome)
            });
            (number, outcome.is_ok())
        };
        assert_eq!(take(&entries, 6), (1, true));
        // The rest is lost: nothing more is written of it than the end of the torn line.
        assert_eq!(take(&entries[1..], 0), (2, false));
        assert_eq!(take(&entries, 1), (3, false));
        assert_eq!(take(&entries, usize::MAX), (3, true));
        assert_eq!(file, b"one\ntw\none\ntwo\nthree\n");
    }
}
