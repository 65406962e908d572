//! The monitor's input for a loader, over a pipe: for a configuration, the environment that the
//! service was started with and the certificate of the monitor's CA; for the files of the system, which
//! of them the settings in force need; for sources of credentials, these and the environment.
//!
//! The environment may hold secrets. A process's own environment is readable in `/proc/PID/environ`
//! from its first instruction on, before it can forbid that. The bytes on the pipe are not.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::layout::{Malformed, Reader, Writer};
use super::system_files::Plan;

/// Longest briefing, in bytes. Linux allows a program 6 MiB of arguments and environment
/// (`execve(2)`).
pub(crate) const MAX_BRIEFING: u64 = 16 << 20;

/// The input of a loader: its task.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Briefing {
    /// Load a configuration.
    Configuration {
        which: WhichConfiguration,
        environment: Arc<Environment>,
        /// That of the monitor's CA, DER.
        certificate: Vec<u8>,
    },
    /// Read the files of the system again, for the settings in force.
    SystemFiles(Plan),
    /// Read these sources of credentials again. `opaque` has their layout.
    Credentials {
        sources: Vec<Vec<u8>>,
        environment: Arc<Environment>,
    },
}

/// Which configuration to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum WhichConfiguration {
    /// The one that the command line names.
    Current = 0,
    /// The same, and write a copy of it for [`LastGood`](Self::LastGood).
    CurrentWithCopy = 1,
    /// The copy of the last one that a worker ran with.
    LastGood = 2,
    /// One that refuses everything.
    Closed = 3,
}

/// The variables that the service was started with.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Environment(HashMap<OsString, OsString>);

impl Environment {
    /// The environment of this process.
    pub(crate) fn of_this_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// The value of a variable.
    pub(crate) fn get(&self, name: &str) -> Option<OsString> {
        self.0.get(OsStr::new(name)).cloned()
    }

    /// The length of its encoding.
    fn length(&self) -> usize {
        let lengths = self.0.iter().map(|(name, value)| name.len() + value.len());
        4 + 8 * self.0.len() + lengths.sum::<usize>()
    }

    fn encode(&self, out: &mut Writer) {
        out.u32(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        for (name, value) in &self.0 {
            out.counted(name.as_bytes());
            out.counted(value.as_bytes());
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut variables = HashMap::new();
        for _ in 0..input.u32()? {
            let name = OsString::from_vec(input.counted()?.to_vec());
            variables.insert(name, OsString::from_vec(input.counted()?.to_vec()));
        }
        Ok(Self(variables))
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

impl Briefing {
    /// The bytes, which are overwritten when they are dropped.
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        // One allocation each: a vector that grows leaves its old bytes behind.
        let mut out;
        match self {
            Self::Configuration {
                which,
                environment,
                certificate,
            } => {
                let length = 2 + environment.length() + certificate.len() + 4;
                out = Writer(Vec::with_capacity(length));
                out.u8(0);
                out.u8(*which as u8);
                environment.encode(&mut out);
                out.counted(certificate);
            }
            Self::SystemFiles(plan) => {
                out = Writer::default();
                out.u8(1);
                plan.encode(&mut out);
            }
            Self::Credentials {
                sources,
                environment,
            } => {
                let sizes = sources.iter().map(|source| source.len() + 4);
                let length = 1 + environment.length() + sizes.sum::<usize>() + 4;
                out = Writer(Vec::with_capacity(length));
                out.u8(2);
                environment.encode(&mut out);
                out.parts(sources);
            }
        }
        Zeroizing::new(out.0)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader(bytes);
        match input.u8()? {
            0 => {}
            1 => {
                let plan = Plan::decode(&mut input)?;
                return input.end(Self::SystemFiles(plan));
            }
            2 => {
                let environment = Arc::new(Environment::decode(&mut input)?);
                let sources = input.parts()?;
                return input.end(Self::Credentials {
                    sources,
                    environment,
                });
            }
            _ => return Err(Malformed),
        }
        let which = match input.u8()? {
            0 => WhichConfiguration::Current,
            1 => WhichConfiguration::CurrentWithCopy,
            2 => WhichConfiguration::LastGood,
            3 => WhichConfiguration::Closed,
            _ => return Err(Malformed),
        };
        let briefing = Self::Configuration {
            which,
            environment: Arc::new(Environment::decode(&mut input)?),
            certificate: input.counted()?.to_vec(),
        };
        input.end(briefing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m4_a_briefing_is_read_back_unchanged_and_never_in_part() {
        let variables = [
            (&b"API_TOKEN"[..], &b"hunter2"[..]),
            (b"EMPTY", b""),
            (b"\xff", b"\xfe\n"),
        ];
        let variables = variables.map(|(name, value)| {
            let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
            (text(name), text(value))
        });
        for environment in [
            Environment::default(),
            Environment(HashMap::from(variables)),
        ] {
            let briefing = Briefing::Configuration {
                which: WhichConfiguration::LastGood,
                environment: Arc::new(environment),
                certificate: b"DER".to_vec(),
            };
            let bytes = briefing.encode();
            assert_eq!(
                bytes.len(),
                bytes.capacity(),
                "one allocation, of this size"
            );
            for end in 0..bytes.len() {
                assert_eq!(
                    Briefing::decode(&bytes[..end]),
                    Err(Malformed),
                    "cut to {end}"
                );
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(Briefing::decode(&longer), Err(Malformed), "a byte more");
            assert_eq!(Briefing::decode(&bytes), Ok(briefing));
        }
    }

    #[test]
    fn b13_a_briefing_about_sources_is_read_back_unchanged_and_never_in_part() {
        let variable = (OsString::from("HOME"), OsString::from("/root"));
        let briefing = Briefing::Credentials {
            sources: vec![b"one".to_vec(), b"two".to_vec()],
            environment: Arc::new(Environment(HashMap::from([variable]))),
        };
        let bytes = briefing.encode();
        assert_eq!(bytes.len(), bytes.capacity());
        for end in 0..bytes.len() {
            assert_eq!(Briefing::decode(&bytes[..end]), Err(Malformed), "{end}");
        }
        assert_eq!(Briefing::decode(&bytes), Ok(briefing));
    }

    #[test]
    fn b4_a_briefing_does_not_show_its_variables() {
        let variable = (OsString::from("API_TOKEN"), OsString::from("hunter2"));
        let briefing = Briefing::Configuration {
            which: WhichConfiguration::Current,
            environment: Arc::new(Environment(HashMap::from([variable]))),
            certificate: Vec::new(),
        };
        assert!(!format!("{briefing:?}").contains("hunter2"));
    }
}
