//! The sources of credentials, and the values that were read from them (SPEC B13).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use codex_network_config::{CredentialReading, CredentialSource, Secret};
use zeroize::Zeroizing;

use super::{put, take};

const FILE: u8 = b'f';
const COMMAND: u8 = b'c';
const SYSTEMD: u8 = b's';

/// Writes readings, each as a part. The bytes are overwritten when they are dropped.
pub(crate) fn encode(readings: &[CredentialReading]) -> Zeroizing<Vec<u8>> {
    let values = readings.iter().filter_map(|reading| reading.value.as_ref());
    let values: usize = values.map(|value| value.expose().len()).sum();
    let others = readings.iter().map(|reading| {
        let failure = reading.failure.as_deref().unwrap_or_default();
        failure.len() + source(&reading.source).len() + 64
    });
    // One allocation: a vector that grows leaves its old bytes behind.
    let mut out = Zeroizing::new(Vec::with_capacity(values + others.sum::<usize>()));
    for reading in readings {
        put(&mut out, &source(&reading.source));
        // No value and no failure is empty, so an empty part means "none".
        put(
            &mut out,
            reading.value.as_ref().map_or(&[], |value| value.expose()),
        );
        put(
            &mut out,
            reading.failure.as_deref().unwrap_or_default().as_bytes(),
        );
        out.extend_from_slice(&reading.read_at.to_le_bytes());
        out.extend_from_slice(&reading.failures.to_le_bytes());
    }
    out
}

/// Reads the output of [`encode`]. `None` if it is malformed.
pub(crate) fn decode(mut bytes: &[u8]) -> Option<Vec<CredentialReading>> {
    let mut readings = Vec::new();
    while !bytes.is_empty() {
        let (written, rest) = take(bytes)?;
        let (value, rest) = take(rest)?;
        let (failure, rest) = take(rest)?;
        let (read_at, rest) = rest.split_first_chunk()?;
        let (failures, rest) = rest.split_first_chunk()?;
        readings.push(CredentialReading {
            source: read_source(written)?,
            value: (!value.is_empty()).then(|| Secret::new(value.to_vec())),
            read_at: i64::from_le_bytes(*read_at),
            failure: (!failure.is_empty()).then(|| Arc::from(String::from_utf8_lossy(failure))),
            failures: u64::from_le_bytes(*failures),
        });
        bytes = rest;
    }
    Some(readings)
}

/// Writes one source. That of the launcher is never read.
pub(crate) fn source(source: &CredentialSource) -> Vec<u8> {
    let mut out = Vec::new();
    match source {
        CredentialSource::Environment => {}
        CredentialSource::File(path) => {
            out.push(FILE);
            put(&mut out, path.as_os_str().as_bytes());
        }
        CredentialSource::SystemdCredential(name) => {
            out.push(SYSTEMD);
            put(&mut out, name.as_bytes());
        }
        CredentialSource::Command { argv, timeout, ttl } => {
            out.push(COMMAND);
            out.extend_from_slice(&millis(*timeout).to_le_bytes());
            out.extend_from_slice(&ttl.map_or(0, millis).to_le_bytes());
            for word in argv {
                put(&mut out, word.as_bytes());
            }
        }
    }
    out
}

/// Reads the output of [`source`]. `None` if it is malformed.
pub(crate) fn read_source(bytes: &[u8]) -> Option<CredentialSource> {
    let (kind, rest) = bytes.split_first()?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let alone = |bytes| take(bytes).and_then(|(part, rest)| rest.is_empty().then_some(part));
    match *kind {
        FILE => Some(CredentialSource::File(PathBuf::from(OsStr::from_bytes(
            alone(rest)?,
        )))),
        SYSTEMD => Some(CredentialSource::SystemdCredential(text(alone(rest)?)?)),
        COMMAND => {
            let (timeout, rest) = rest.split_first_chunk()?;
            let (ttl, mut rest) = rest.split_first_chunk()?;
            let (timeout, ttl) = (u64::from_le_bytes(*timeout), u64::from_le_bytes(*ttl));
            let mut argv = Vec::new();
            while !rest.is_empty() {
                let (word, left) = take(rest)?;
                argv.push(text(word)?);
                rest = left;
            }
            Some(CredentialSource::Command {
                argv,
                timeout: Duration::from_millis(timeout),
                ttl: (ttl != 0).then(|| Duration::from_millis(ttl)),
            })
        }
        _ => None,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b13_readings_are_read_back_unchanged_and_never_in_part() {
        let command = |ttl| CredentialSource::Command {
            argv: vec!["/usr/bin/gh".to_owned(), "auth".to_owned(), String::new()],
            timeout: Duration::from_secs(10),
            ttl,
        };
        let reading = |source, value: Option<&str>| CredentialReading {
            source,
            value: value.map(|value| Secret::new(value.as_bytes().to_vec())),
            read_at: 1_764_500_000,
            failure: value.is_none().then(|| Arc::from("is gone")),
            failures: 3,
        };
        let readings = vec![
            reading(CredentialSource::File("/etc/token".into()), Some("one")),
            reading(command(None), None),
            reading(command(Some(Duration::from_secs(3600))), Some("two")),
            reading(CredentialSource::SystemdCredential("t".to_owned()), None),
        ];
        let bytes = encode(&readings);
        assert!(bytes.len() <= bytes.capacity());
        assert_eq!(decode(&bytes).as_ref(), Some(&readings));
        let ends: Vec<usize> = (0..readings.len())
            .map(|count| encode(&readings[..count]).len())
            .collect();
        for end in (0..bytes.len()).filter(|end| !ends.contains(end)) {
            assert_eq!(decode(&bytes[..end]), None, "cut to {end}");
        }
        assert_eq!(decode(&[]), Some(Vec::new()));
    }
}
