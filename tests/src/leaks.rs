//! Searches for a secret in everything that the programs of a test wrote, and in the memory of processes.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::client::Response;
use crate::daemon::Daemon;
use crate::proxyctl::proxyctl;

/// The largest piece of memory that is read at once.
const PIECE_BYTES: usize = 1 << 20;

/// A text that must not be found, in each form in which a program may have written it.
pub struct Leak {
    forms: Vec<(&'static str, Vec<u8>)>,
}

/// Bytes that a program wrote, and where.
pub struct Written {
    /// The place, for messages.
    pub place: String,
    /// All bytes there.
    pub bytes: Vec<u8>,
}

impl Leak {
    /// The text as it is, in base64 at each place in a group, percent-encoded, in hexadecimal digits, and as the
    /// list of numbers that `{:?}` makes of bytes.
    pub fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        assert!(bytes.len() >= 8, "a shorter text is found by chance");
        let join = |separator: &str, form: &dyn Fn(u8) -> String| {
            let all: Vec<String> = bytes.iter().map(|byte| form(*byte)).collect();
            all.join(separator).into_bytes()
        };
        let mut forms = vec![
            ("plain", bytes.to_vec()),
            ("percent-encoded", join("", &|byte| format!("%{byte:02X}"))),
            ("percent-encoded", join("", &|byte| format!("%{byte:02x}"))),
            ("hexadecimal", join("", &|byte| format!("{byte:02x}"))),
            ("hexadecimal", join("", &|byte| format!("{byte:02X}"))),
            ("a list of numbers", join(", ", &|byte| byte.to_string())),
            ("a list of numbers", join(",", &|byte| byte.to_string())),
        ];
        for phase in 0..3 {
            let padded = [&[0; 2][..phase], bytes].concat();
            // The characters at both ends depend on the bytes around the text.
            let (begin, end) = ((phase * 8).div_ceil(6), padded.len() * 8 / 6);
            for encoded in [
                STANDARD_NO_PAD.encode(&padded),
                URL_SAFE_NO_PAD.encode(&padded),
            ] {
                forms.push(("base64", encoded.as_bytes()[begin..end].to_vec()));
            }
        }
        Self { forms }
    }

    /// The form in which the text is in these bytes.
    pub fn find(&self, bytes: &[u8]) -> Option<&'static str> {
        let mut begins = [false; 256];
        for (_, form) in &self.forms {
            begins[usize::from(form[0])] = true;
        }
        let places = bytes.iter().enumerate();
        let mut places = places.filter(|(_, byte)| begins[usize::from(**byte)]);
        places.find_map(|(place, _)| {
            let here = |(_, form): &&(&str, Vec<u8>)| bytes[place..].starts_with(form);
            self.forms.iter().find(here).map(|(name, _)| *name)
        })
    }

    /// Fails if the text is in these bytes.
    #[track_caller]
    pub fn assert_not_in(&self, place: &str, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        if let Some(form) = self.find(bytes) {
            panic!(
                "the secret is in {place}, {form}: {}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    /// Fails if the text is in any part of an answer.
    #[track_caller]
    pub fn assert_not_in_answer(&self, place: &str, answer: &Response) {
        self.assert_not_in(place, &answer.start);
        for (name, value) in answer.headers.iter().chain(answer.trailers.iter()) {
            self.assert_not_in(&format!("{place}, field {name}"), value);
            self.assert_not_in(&format!("{place}, the name of a field"), name);
        }
        self.assert_not_in(&format!("{place}, content"), &answer.body);
    }

    /// Fails if the text is in anything that a daemon wrote so far (see [`written`]).
    #[track_caller]
    pub fn assert_not_written_by(&self, daemon: &Daemon, urls: &[&str]) {
        for Written { place, bytes } in written(daemon, urls) {
            self.assert_not_in(&place, bytes);
        }
    }

    /// The places in the writable memory of a process that have the text as it is; empty if the process has
    /// ended. The caller must be allowed to read the memory.
    pub fn in_memory(&self, pid: u32) -> Vec<String> {
        let (_, plain) = &self.forms[0];
        let (Ok(maps), Ok(mut memory)) = (
            fs::read_to_string(format!("/proc/{pid}/maps")),
            fs::File::open(format!("/proc/{pid}/mem")),
        ) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let (Some(range), Some(rights)) = (words.next(), words.next()) else {
                continue;
            };
            let Some((begin, end)) = range.split_once('-') else {
                continue;
            };
            let number = |text| u64::from_str_radix(text, 16).expect("a hexadecimal address");
            let (mut begin, end) = (number(begin), number(end));
            if !rights.starts_with("rw") {
                continue;
            }
            let mut piece = vec![0; PIECE_BYTES + plain.len()];
            while begin < end {
                let length =
                    usize::try_from(end - begin).map_or(piece.len(), |all| all.min(piece.len()));
                let read = memory
                    .seek(SeekFrom::Start(begin))
                    .and_then(|_| memory.read_exact(&mut piece[..length]));
                // Some special mappings cannot be read.
                if read.is_err() {
                    break;
                }
                for place in places(&piece[..length], plain) {
                    let around =
                        &piece[place.saturating_sub(24)..length.min(place + plain.len() + 8)];
                    let around = String::from_utf8_lossy(around).into_owned();
                    found.push(format!("{:x} ({line}): {around:?}", begin + place as u64));
                }
                begin += PIECE_BYTES as u64;
            }
        }
        found
    }
}

/// Everything that a daemon wrote: standard output and error with the log, the audit events and the records in it,
/// the files in its directory, the answers of its admin API, and those of its control socket. `urls` are explained.
pub fn written(daemon: &Daemon, urls: &[&str]) -> Vec<Written> {
    let mut all = Vec::new();
    for target in ["/health", "/config", "/patterns", "/blocked"] {
        let answer = daemon.admin("GET", target, None);
        all.push(Written {
            place: format!("the admin API's answer to {target}"),
            bytes: format!("{answer:?}{}", answer.text()).into_bytes(),
        });
    }
    let calls = [
        "config",
        "status",
        "sessions",
        "credentials",
        "blocked",
        "patterns",
    ];
    let calls = calls.map(|call| vec![call]).into_iter();
    let explained = urls.iter().map(|url| vec!["explain", url]);
    for call in calls.chain(explained) {
        for call in [call.clone(), [&["--json"], &call[..]].concat()] {
            let run = proxyctl(daemon, &call);
            all.push(Written {
                place: format!("the output of proxyctl {call:?}"),
                bytes: format!("{}{}", run.stdout, run.stderr).into_bytes(),
            });
        }
    }
    files(daemon.directory(), &mut all);
    for (name, lines) in [("error", daemon.logs()), ("output", daemon.stdout())] {
        let lines: Vec<String> = lines.into_iter().map(|line| line.raw).collect();
        all.push(Written {
            place: format!("standard {name}"),
            bytes: lines.join("\n").into_bytes(),
        });
    }
    all
}

fn files(directory: &Path, all: &mut Vec<Written>) {
    for entry in fs::read_dir(directory)
        .expect("a directory of the test")
        .flatten()
    {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            files(&path, all);
        } else if kind.is_file()
            && let Ok(bytes) = fs::read(&path)
        {
            let place = path.display().to_string();
            all.push(Written { place, bytes });
        }
    }
}

/// The places of a text in bytes.
fn places<'b>(bytes: &'b [u8], text: &'b [u8]) -> impl Iterator<Item = usize> + 'b {
    let (first, rest) = (text[0], &text[1..]);
    let begins = bytes.iter().enumerate();
    let begins = begins.filter(move |(_, byte)| **byte == first);
    begins.filter_map(move |(place, _)| bytes[place + 1..].starts_with(rest).then_some(place))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const SECRET: &str = "hunter2-hunter3";

    #[test]
    fn a_leak_is_found_in_each_form() {
        let leak = Leak::of(SECRET);
        for text in [
            format!("a {SECRET} b"),
            STANDARD.encode(format!("me:{SECRET}")),
            STANDARD.encode(format!("user:{SECRET}:x")),
            STANDARD.encode(format!("x{SECRET}\n")),
            format!("{:?}", SECRET.as_bytes()),
            format!("{:x?}", SECRET.as_bytes()).replace(", ", ""),
        ] {
            assert!(leak.find(text.as_bytes()).is_some(), "{text}");
        }
        for text in ["", "hunter2-hunter", "Hunter2-hunter3", "unter2-hunter3"] {
            assert_eq!(leak.find(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_leak_in_memory_is_found() {
        let held = String::from("in the memory of this test");
        assert!(!Leak::of(&held).in_memory(std::process::id()).is_empty());
    }
}
