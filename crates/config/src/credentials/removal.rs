//! The variables that a program must not get: credentials without a dummy, and copies of their values (SPEC B3,
//! B13).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::BrokeredVariable;
use super::variables::Replacements;
use crate::secret::Secret;

/// Fewest bytes of a value that is searched for in other variables. No credential is shorter.
const MIN_VALUE_BYTES: usize = 8;
/// How often an escape may be escaped again.
const MAX_ESCAPES: usize = 3;

/// A variable of a launcher that holds a credential.
#[derive(Clone, Debug)]
pub struct CredentialVariable {
    /// The variable.
    pub name: String,
    /// Its bytes, without a line end after them.
    pub value: Secret,
}

/// A variable that a program must not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedVariable {
    /// The variable.
    pub name: OsString,
    /// The reason.
    pub reason: RemovalReason,
}

/// Why a program must not get a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovalReason {
    /// It is a credential, and the session has no dummy for its value.
    NoDummy,
    /// It is a credential whose value is not text.
    NotText,
    /// It contains the value of the credential in this variable.
    Contains(String),
}

impl CredentialVariable {
    /// `None` for a variable without a value.
    pub fn new(name: String, value: &OsStr) -> Option<Self> {
        let all = value.as_bytes();
        let line = all.strip_suffix(b"\n");
        let line = line.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let value = Secret::new(line.unwrap_or(all).to_vec());
        (!all.is_empty()).then_some(Self { name, value })
    }

    /// The value as text.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.value.expose()).ok()
    }

    fn is_brokered(&self, brokered: &[BrokeredVariable]) -> bool {
        brokered.iter().any(|one| one.name.as_str() == self.name)
    }

    /// Whether a text contains the value, of 8 bytes or more. White space at the edges of the value does not count.
    pub fn is_in(&self, text: &OsStr) -> bool {
        let value = self.value.expose().trim_ascii();
        value.len() >= MIN_VALUE_BYTES && contains(text.as_bytes(), value)
    }

    /// Whether a text contains the value with escapes (percent-encoded, or as in a string of JSON) or in hexadecimal
    /// digits.
    fn is_in_escaped(&self, text: &OsStr) -> bool {
        let value = self.value.expose().trim_ascii();
        if value.len() < MIN_VALUE_BYTES {
            return false;
        }
        let digits: Vec<u8> = value.iter().flat_map(|byte| hex_digits(*byte)).collect();
        let (digits, lower) = (Secret::new(digits), text.as_bytes().to_ascii_lowercase());
        if contains(Secret::new(lower).expose(), digits.expose()) {
            return true;
        }
        let mut text = Secret::new(text.as_bytes().to_vec());
        (0..MAX_ESCAPES).any(|_| {
            text = Secret::new(unescaped(text.expose()));
            contains(text.expose(), value)
        })
    }

    /// Whether a text contains it in base64, such as a user name and a token for Basic. Nothing is replaced there.
    fn is_in_base64(&self, text: &OsStr) -> bool {
        let value = self.value.expose().trim_ascii();
        let is_apart = |byte: &u8| sextet(*byte).is_none();
        let runs = text.as_bytes().split(is_apart);
        // Text may stand before it without a character between, so each place of a group is tried.
        let mut decoded = runs
            .filter(|run| value.len() >= MIN_VALUE_BYTES && run.len() > value.len())
            .flat_map(|run| (0..4).map(|skipped| decoded(&run[skipped.min(run.len())..])));
        decoded.any(|bytes| contains(Secret::new(bytes).expose(), value))
    }
}

/// The variables of this environment that a program must not get: every credential that has no dummy, first, and every
/// other variable that contains its value. Those that contain a value that has a dummy are among them where that is
/// not replaced: in a variable that is not text, in `PATH` and the like, in base64, in hexadecimal digits, with escapes
/// other than percent-encoding as a whole, and if it is short.
pub fn removed_variables<'e>(
    environment: impl IntoIterator<Item = (&'e OsStr, &'e OsStr)>,
    credentials: &[CredentialVariable],
    brokered: &[BrokeredVariable],
) -> Vec<RemovedVariable> {
    let without = credentials
        .iter()
        .filter(|credential| !credential.is_brokered(brokered));
    let mut removed: Vec<RemovedVariable> = without
        .map(|credential| RemovedVariable {
            name: (&credential.name).into(),
            reason: match credential.text() {
                Some(_) => RemovalReason::NoDummy,
                None => RemovalReason::NotText,
            },
        })
        .collect();
    let replacements = Replacements::new(brokered);
    for (name, text) in environment {
        let is_known = removed.iter().any(|known| known.name == name)
            || brokered.iter().any(|one| name == one.name.as_str());
        if is_known {
            continue;
        }
        let as_text = name.to_str().zip(text.to_str());
        let replaced = as_text.and_then(|(name, text)| replacements.apply(name, text));
        let text = replaced.as_ref().map_or(text, |(text, _)| OsStr::new(text));
        let contained = credentials.iter().find(|credential| {
            credential.is_in(text)
                || credential.is_in_escaped(text)
                || credential.is_in_base64(text)
        });
        removed.extend(contained.map(|credential| RemovedVariable {
            name: name.to_owned(),
            reason: RemovalReason::Contains(credential.name.clone()),
        }));
    }
    removed
}

fn contains(text: &[u8], value: &[u8]) -> bool {
    text.windows(value.len()).any(|part| part == value)
}

fn hex_digits(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 0xf].map(|digit| b"0123456789abcdef"[usize::from(digit)])
}

/// The text without one level of escapes: `%XX`, `\xXX`, `\uXXXX` of a byte, and `\` before any other character.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        let mut begins = [&b"%"[..], b"\\x", b"\\u00"].into_iter();
        let digits = begins.find_map(|begin| rest.strip_prefix(begin));
        let escaped = match digits {
            Some([high, low, after @ ..]) => byte_of(*high, *low).map(|byte| (byte, after)),
            _ => None,
        };
        let (byte, after) = match (escaped, first, behind) {
            (Some(escaped), ..) => escaped,
            (None, b'\\', [other, after @ ..]) => (*other, after),
            (None, ..) => (*first, behind),
        };
        bytes.push(byte);
        rest = after;
    }
    bytes
}

/// The byte that two hexadecimal digits stand for.
fn byte_of(high: u8, low: u8) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

/// The six bits of a character of base64, in either alphabet (RFC 4648).
fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

/// The bytes that a run of base64 stands for, without those that are incomplete.
fn decoded(run: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(run.len());
    let (mut bits, mut count) = (0_u32, 0);
    for sextet in run.iter().filter_map(|byte| sextet(*byte)) {
        bits = bits << 6 | u32::from(sextet);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.extend(u8::try_from(bits >> count & 0xff));
        }
    }
    bytes
}
