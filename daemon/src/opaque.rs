//! Opaque data: bytes that the loader writes for the worker. The monitor passes them on unread.
//!
//! Each kind is written and read in one file. A part of known length is its length, in eight bytes, and
//! that many bytes. Both sides are the same program, so there is no version.

pub(crate) mod ca_and_roots;
pub(crate) mod credentials;
pub(crate) mod file_contents;
pub(crate) mod worker_settings;

/// Appends bytes after their length.
fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Bytes after their length, and the rest.
fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}

/// Sentences, one to a line.
fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().map(str::to_owned).collect()
}
