//! The variables that a program must not get: credentials without a dummy, and copies of their values (SPEC B3,
//! B13).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::BrokeredVariable;
use crate::secret::Secret;

/// Fewest bytes of a value that is searched for in other variables. No credential is shorter.
const MIN_VALUE_BYTES: usize = 8;

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

    /// Whether a text contains the value. White space at the edges of the value does not count.
    fn is_in(&self, text: &OsStr) -> bool {
        let value = self.value.expose().trim_ascii();
        value.len() >= MIN_VALUE_BYTES
            && text
                .as_bytes()
                .windows(value.len())
                .any(|part| part == value)
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
        decoded.any(|bytes| {
            let bytes = Secret::new(bytes);
            let mut parts = bytes.expose().windows(value.len());
            parts.any(|part| part == value)
        })
    }
}

/// The variables of this environment that a program must not get: every credential that has no dummy, first, and every
/// other variable that contains its value. A variable that is not text is among them too if it contains a value
/// that has a dummy, since nothing is replaced in it, and so is one that contains such a value in base64.
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
    for (name, text) in environment {
        let is_known = removed.iter().any(|known| known.name == name)
            || brokered.iter().any(|one| name == one.name.as_str());
        if is_known {
            continue;
        }
        let is_text = text.to_str().is_some() && name.to_str().is_some();
        let contained = credentials.iter().find(|credential| {
            let is_replaced = is_text && credential.is_brokered(brokered);
            credential.is_in(text) && !is_replaced || credential.is_in_base64(text)
        });
        removed.extend(contained.map(|credential| RemovedVariable {
            name: name.to_owned(),
            reason: RemovalReason::Contains(credential.name.clone()),
        }));
    }
    removed
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
