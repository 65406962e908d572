//! The requirements that a running proxy needs: the values they pin, the modes they permit, and
//! whether only the managed list may allow a host (SPEC C6).

use std::fmt;
use std::sync::Arc;

use codex_network_policy::{ConfigLine, Mode};

/// The requirements that the settings were made under. The default requires nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    pub(crate) pins: Arc<[Pin]>,
    pub(crate) mode: Mode,
    /// The entries of the managed lists, each with the name of its list.
    pub(crate) entries: Arc<[String]>,
    /// `managed_allowed_domains_only`: the policy's allow list holds managed entries only, and a
    /// host that is not on it is refused without a request to the decider (SPEC P8 does not apply).
    pub allowed_domains_only: bool,
}

/// A value that a requirement bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The setting's name.
    pub key: &'static str,
    /// The permitted values, in words.
    pub allowed: String,
    /// The place of the requirement.
    pub line: ConfigLine,
}

/// A value that exceeds a requirement. `Display` writes one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}; {} requires it", invalid(.pin.key, .requested, &.pin.allowed), .pin.line)]
pub struct Widening {
    requested: String,
    pin: Pin,
}

impl Managed {
    /// The values that requirements bound, each with the place of the requirement.
    pub fn pins(&self) -> &[Pin] {
        &self.pins
    }

    /// The requirements as text: a line for each bound and each entry of the managed lists, sorted. Files with the same meaning
    /// give the same lines; there are none without requirements.
    pub fn lines(&self) -> Vec<String> {
        let bounds = self.pins.iter();
        let bounds = bounds.map(|pin| format!("{}: {}", pin.key, pin.allowed));
        let mut lines: Vec<_> = bounds.chain(self.entries.iter().cloned()).collect();
        lines.sort_unstable();
        lines.dedup();
        lines
    }

    /// The mode, or the loosest permitted one if that is stricter.
    #[must_use]
    pub fn narrow(&self, mode: Mode) -> Mode {
        mode.min(self.mode)
    }

    /// Checks whether the mode may be set.
    ///
    /// # Errors
    ///
    /// Returns an error if a requirement has a stricter mode.
    pub fn permit_mode(&self, mode: Mode) -> Result<(), Widening> {
        let pin = self.pins.iter().find(|pin| pin.key == "mode");
        match pin {
            Some(pin) if mode > self.mode => Err(Widening {
                requested: mode.to_string(),
                pin: pin.clone(),
            }),
            _ => Ok(()),
        }
    }
}

impl Default for Managed {
    fn default() -> Self {
        Self {
            pins: Arc::default(),
            mode: Mode::Full,
            entries: Arc::default(),
            allowed_domains_only: false,
        }
    }
}

/// `limited, by /etc/codex/requirements.toml:2`.
impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, by {}", self.allowed, self.line)
    }
}

/// The sentence of SPEC C6, with the full name of a key of `[daemon]`.
pub(crate) fn invalid(key: &str, requested: &str, allowed: &str) -> String {
    let table = if key.starts_with("daemon.") {
        ""
    } else {
        "network."
    };
    format!("invalid value for {table}{key}: {requested} (allowed {allowed})")
}
