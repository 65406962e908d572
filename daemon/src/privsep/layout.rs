//! Numbers and texts as bytes, and nothing else: little-endian, texts with a four-byte length.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A malformed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message does not have the layout of its operation")]
pub(crate) struct Malformed;

/// Appends values.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

/// Reads values from the front. Every read checks that enough bytes are left.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Writer {
    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes after their length.
    pub(super) fn counted(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
    }

    /// Parts, each after its length.
    pub(super) fn parts(&mut self, parts: &[Vec<u8>]) {
        self.u32(u32::try_from(parts.len()).unwrap_or(u32::MAX));
        for part in parts {
            self.counted(part);
        }
    }

    pub(super) fn millis(&mut self, value: Duration) {
        self.u32(u32::try_from(value.as_millis()).unwrap_or(u32::MAX));
    }

    /// A text at the end of a message, cut so that the message fits into `longest` bytes.
    pub(super) fn text(&mut self, text: &str, longest: usize) {
        let room = longest.saturating_sub(self.0.len() + 4);
        let end = (0..=room.min(text.len()))
            .rev()
            .find(|end| text.is_char_boundary(*end));
        let text = &text[..end.unwrap_or(0)];
        self.u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn path(&mut self, path: &Path) {
        let bytes = path.as_os_str().as_bytes();
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
    }

    /// An address: 4 or 6 for its family, the address as IPv6 (IPv4 is mapped), and the port. `None` is
    /// a 0 alone.
    pub(super) fn address(&mut self, address: Option<SocketAddr>) {
        let Some(address) = address else {
            return self.u8(0);
        };
        let (family, octets) = match address.ip() {
            IpAddr::V4(ip) => (4, ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => (6, ip.octets()),
        };
        self.u8(family);
        self.0.extend_from_slice(&octets);
        self.u16(address.port());
    }
}

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn counted(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()? as usize;
        self.bytes(length)
    }

    pub(super) fn parts(&mut self) -> Result<Vec<Vec<u8>>, Malformed> {
        let count = self.u32()?;
        (0..count).map(|_| Ok(self.counted()?.to_vec())).collect()
    }

    pub(super) fn millis(&mut self) -> Result<Duration, Malformed> {
        Ok(Duration::from_millis(self.u32()?.into()))
    }

    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        let length = self.u32()? as usize;
        let bytes = self.bytes(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Malformed)
    }

    pub(super) fn path(&mut self) -> Result<PathBuf, Malformed> {
        let length = self.u32()? as usize;
        Ok(OsStr::from_bytes(self.bytes(length)?).into())
    }

    pub(super) fn address(&mut self) -> Result<Option<SocketAddr>, Malformed> {
        let family = self.u8()?;
        if family == 0 {
            return Ok(None);
        }
        let ip = Ipv6Addr::from(self.array::<16>()?);
        let ip = match family {
            4 => IpAddr::V4(ip.to_ipv4_mapped().ok_or(Malformed)?),
            6 => IpAddr::V6(ip),
            _ => return Err(Malformed),
        };
        Ok(Some(SocketAddr::new(ip, self.u16()?)))
    }

    /// The message, if no bytes are left.
    pub(super) fn end<T>(self, message: T) -> Result<T, Malformed> {
        if self.0.is_empty() {
            Ok(message)
        } else {
            Err(Malformed)
        }
    }
}
