//! A loader's output. About a configuration it is the facts for the monitor, in a fixed layout, and a
//! blob for the worker.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::interceptable::Interceptable;
use super::layout::{Malformed, Reader, Writer};
use super::message::{Account, Confinement, Fallback, Problems};
use super::system_files::{FoundFiles, SystemFiles};
use crate::ca::{Ca, Scalar};

/// A loader's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Loaded {
    /// The configuration cannot be used.
    Problems(Problems),
    /// The configuration can be used.
    Settled(Settled),
    /// The files of the system, which were read alone.
    Files(FoundFiles),
    /// Sources of credentials, which were read alone, for the worker.
    Credentials(Vec<u8>),
}

/// The facts about a configuration for the monitor, and the rest, which it does not parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    /// The listen addresses, in the order of
    /// [`ListenerName::ALL`](super::message::ListenerName::ALL). All `None` when the proxy is
    /// disabled.
    pub(crate) listen: [Option<SocketAddr>; 3],
    pub(crate) control: Option<ControlPlace>,
    /// Which clients may reach inherited sockets, in the same order.
    pub(crate) reach: [Reach; 3],
    /// Whether the proxy is switched on. When it is off, open listeners stay.
    pub(crate) power: Power,
    pub(crate) account: Option<Account>,
    pub(crate) confinement: Confinement,
    pub(crate) drain_limit: Duration,
    pub(crate) lines: Lines,
    /// Which CA issues leaves.
    pub(crate) authority: Authority,
    /// The hosts that it issues for.
    pub(crate) interceptable: Arc<Interceptable>,
    /// The files of the system.
    pub(crate) system_files: Box<SystemFiles>,
    /// The sources of credentials that a loader reads. The monitor does not parse them.
    pub(crate) credential_sources: Vec<Vec<u8>>,
    /// The copy of the configuration, which becomes the last good one once a worker runs with it.
    /// `None` if there is nothing to write.
    pub(crate) copy: Option<PathBuf>,
    /// Whether these stand in for a configuration that cannot be used. The monitor knows it, not the
    /// loader.
    pub(crate) fallback: Fallback,
    /// The time from which a service that starts now numbers refusals: milliseconds since 1970.
    pub(crate) numbered_from: u64,
    /// The settings, for the worker.
    pub(crate) blob: Vec<u8>,
}

/// Which CA issues leaves (SPEC M3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Authority {
    /// No CA: interception is forbidden.
    None,
    /// The one that the monitor made when it started.
    Ephemeral,
    /// A CA in files.
    Kept(Arc<Ca>),
}

/// The path of the control socket, and its permitted callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControlPlace {
    pub(crate) path: PathBuf,
    pub(crate) chosen: PathChoice,
    pub(crate) callers: SocketAccess,
}

/// Whether the configuration chose a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum PathChoice {
    /// No. The proxy also runs without it.
    Default = 0,
    /// Yes.
    Configured = 1,
}

/// The callers that must be able to connect to the control socket. The peer's credentials decide
/// which may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketAccess {
    /// None is named: only the owner (and root).
    Owner,
    /// One group is named, and nothing else.
    Group(u32),
    /// Users or several groups are named, which file permissions cannot express. Every user may
    /// connect, and the worker checks the caller.
    Everyone,
}

/// Which clients may reach a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reach {
    Loopback = 0,
    Anywhere = 1,
}

/// Whether the proxy is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Power {
    Off = 0,
    On = 1,
}

/// The format of log lines, for the monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Lines {
    Text = 0,
    Json = 1,
    Journal = 2,
    /// The journal if standard error goes there, else text.
    Auto = 3,
}

impl Loaded {
    /// The bytes, and what precedes them: the CA's key, or zeros. The key is separate so that it is
    /// never in a buffer that grows and leaves copies behind.
    pub(crate) fn encode(&self) -> (Scalar, Vec<u8>) {
        let mut out = Writer::default();
        let mut key = Scalar::default();
        match self {
            Self::Problems(problems) => {
                out.u8(0);
                out.problems(problems);
            }
            Self::Settled(settled) => {
                out.u8(1);
                for address in settled.listen {
                    out.address(address);
                }
                out.control(settled.control.as_ref());
                for reach in settled.reach {
                    out.u8(reach as u8);
                }
                out.u8(settled.power as u8);
                out.account(settled.account);
                out.u8(settled.confinement as u8);
                out.millis(settled.drain_limit);
                out.u8(settled.lines as u8);
                match &settled.authority {
                    Authority::None => out.u8(0),
                    Authority::Ephemeral => out.u8(1),
                    Authority::Kept(ca) => {
                        out.u8(2);
                        out.counted(ca.certificate());
                        key = ca.scalar();
                    }
                }
                settled.interceptable.encode(&mut out);
                out.path(settled.copy.as_deref().unwrap_or(Path::new("")));
                settled.system_files.encode(&mut out);
                out.parts(&settled.credential_sources);
                out.u64(settled.numbered_from);
                out.0.extend_from_slice(&settled.blob);
            }
            Self::Files(found) => {
                out.u8(2);
                found.encode(&mut out);
            }
            Self::Credentials(readings) => {
                // One allocation: a vector that grows leaves its old bytes behind.
                out = Writer(Vec::with_capacity(1 + readings.len()));
                out.u8(3);
                out.0.extend_from_slice(readings);
            }
        }
        (key, out.0)
    }

    pub(crate) fn decode(key: &Scalar, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader(bytes);
        match input.u8()? {
            0 => {
                let problems = Self::Problems(input.problems()?);
                input.end(problems)
            }
            1 => Ok(Self::Settled(Settled {
                listen: [input.address()?, input.address()?, input.address()?],
                control: input.control()?,
                reach: [input.reach()?, input.reach()?, input.reach()?],
                power: match input.u8()? {
                    0 => Power::Off,
                    1 => Power::On,
                    _ => return Err(Malformed),
                },
                account: input.account()?,
                confinement: input.confinement()?,
                drain_limit: input.millis()?,
                lines: match input.u8()? {
                    0 => Lines::Text,
                    1 => Lines::Json,
                    2 => Lines::Journal,
                    3 => Lines::Auto,
                    _ => return Err(Malformed),
                },
                authority: match input.u8()? {
                    0 => Authority::None,
                    1 => Authority::Ephemeral,
                    2 => {
                        let ca = Ca::load(key, input.counted()?, SystemTime::now());
                        Authority::Kept(Arc::new(ca.map_err(|_| Malformed)?))
                    }
                    _ => return Err(Malformed),
                },
                interceptable: Arc::new(Interceptable::decode(&mut input)?),
                fallback: Fallback::None,
                copy: Some(input.path()?).filter(|path| !path.as_os_str().is_empty()),
                system_files: Box::new(SystemFiles::decode(&mut input)?),
                credential_sources: input.parts()?,
                numbered_from: input.u64()?,
                blob: input.0.to_vec(),
            })),
            2 => {
                let found = FoundFiles::decode(&mut input)?;
                input.end(Self::Files(found))
            }
            3 => Ok(Self::Credentials(input.0.to_vec())),
            _ => Err(Malformed),
        }
    }
}

impl Writer {
    fn control(&mut self, place: Option<&ControlPlace>) {
        let Some(place) = place else {
            return self.u8(0);
        };
        self.u8(1);
        self.path(&place.path);
        self.u8(place.chosen as u8);
        match place.callers {
            SocketAccess::Owner => self.u8(0),
            SocketAccess::Group(group) => {
                self.u8(1);
                self.u32(group);
            }
            SocketAccess::Everyone => self.u8(2),
        }
    }
}

impl Reader<'_> {
    fn control(&mut self) -> Result<Option<ControlPlace>, Malformed> {
        match self.u8()? {
            0 => return Ok(None),
            1 => {}
            _ => return Err(Malformed),
        }
        Ok(Some(ControlPlace {
            path: self.path()?,
            chosen: match self.u8()? {
                0 => PathChoice::Default,
                1 => PathChoice::Configured,
                _ => return Err(Malformed),
            },
            callers: match self.u8()? {
                0 => SocketAccess::Owner,
                1 => SocketAccess::Group(self.u32()?),
                2 => SocketAccess::Everyone,
                _ => return Err(Malformed),
            },
        }))
    }

    fn reach(&mut self) -> Result<Reach, Malformed> {
        match self.u8()? {
            0 => Ok(Reach::Loopback),
            1 => Ok(Reach::Anywhere),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
impl Settled {
    /// An example for tests.
    pub(crate) fn example() -> Self {
        use super::interceptable::HostSet;

        Self {
            listen: ["127.0.0.1:3128", "[::1]:8081", "0.0.0.0:0"].map(|text| text.parse().ok()),
            control: Some(ControlPlace {
                path: "/run/control.sock".into(),
                chosen: PathChoice::Configured,
                callers: SocketAccess::Group(7),
            }),
            reach: [Reach::Loopback, Reach::Loopback, Reach::Anywhere],
            power: Power::On,
            account: Some(Account { uid: 1, gid: 2 }),
            confinement: Confinement::Require,
            drain_limit: Duration::from_millis(1500),
            lines: Lines::Json,
            authority: Authority::None,
            interceptable: Arc::new(Interceptable {
                listed: HostSet::Everything,
                denied_to_people: vec![HostSet::default()],
            }),
            fallback: Fallback::None,
            copy: Some("/var/lib/copy".into()),
            system_files: Box::default(),
            credential_sources: vec![b"source".to_vec(), Vec::new()],
            numbered_from: 1 << 40,
            blob: b"anything".to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::Lifetime;

    fn settled(authority: Authority) -> Loaded {
        Loaded::Settled(Settled {
            authority,
            ..Settled::example()
        })
    }

    #[test]
    fn the_output_of_a_loader_is_read_back_unchanged_and_never_in_part() {
        let problems = Loaded::Problems(Problems {
            text: "line 1\nline 2".to_owned(),
            detail: "[]".to_owned(),
        });
        let (key, bytes) = problems.encode();
        assert_eq!(Loaded::decode(&key, &bytes), Ok(problems));
        for authority in [Authority::None, Authority::Ephemeral] {
            let (key, bytes) = settled(authority.clone()).encode();
            assert_eq!(*key, [0; 32], "there is no key to tell");
            assert_eq!(Loaded::decode(&key, &bytes), Ok(settled(authority)));
        }
        let ca = Ca::generate(Lifetime::Kept, SystemTime::now()).expect("a CA");
        let settled = settled(Authority::Kept(Arc::new(ca)));
        let (key, bytes) = settled.encode();
        assert_eq!(Loaded::decode(&key, &bytes), Ok(settled));
        assert!(
            !bytes.windows(32).any(|window| *window == key[..]),
            "the key goes apart"
        );
        let other = Scalar::new([1; 32]);
        assert_eq!(
            Loaded::decode(&other, &bytes),
            Err(Malformed),
            "another CA's key"
        );
        for end in 0..bytes.len() - b"anything".len() {
            assert_eq!(
                Loaded::decode(&key, &bytes[..end]),
                Err(Malformed),
                "cut to {end}"
            );
        }
    }
}
