//! The first message to a worker.

use super::{Account, Confinement, Fallback, ListenerUpdate, MAX_TO_WORKER, Mode};
use crate::privsep::layout::{Malformed, Reader, Writer};

/// Settings to start with, and facts that do not change while the worker lives.
///
/// The first descriptor holds the settings, the second one the files of the system. One follows for
/// each open listener, in the order of [`ListenerName::ALL`](super::ListenerName::ALL), and one for
/// the control socket, if its path is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FirstSettings {
    /// The path of the control socket.
    pub(crate) control: Option<String>,
    /// Whether the monitor bound the control socket or inherited it.
    pub(crate) control_from: ListenerUpdate,
    /// The mode that was set at run time, if it differs from that of the settings.
    pub(crate) mode: Option<Mode>,
    /// How many workers came before this one.
    pub(crate) restarts: u32,
    /// The number after which the worker counts its refusals.
    pub(crate) blocked_base: u64,
    pub(crate) listeners: [ListenerUpdate; 3],
    pub(crate) account: Option<Account>,
    pub(crate) confinement: Confinement,
    pub(crate) fallback: Fallback,
    /// A random number. Only with it may the worker outlive the monitor, so a confined worker must
    /// forget it. [`HandOver`](super::ToWorker::HandOver) brings it back.
    pub(crate) release: u64,
}

impl FirstSettings {
    pub(super) fn encode(&self, out: &mut Writer) {
        out.u8(self.fallback as u8);
        out.u64(self.release);
        for listener in self.listeners {
            out.u8(listener as u8);
        }
        out.account(self.account);
        out.u8(self.confinement as u8);
        out.u8(self.control_from as u8);
        out.u32(self.restarts);
        out.u64(self.blocked_base);
        match self.mode {
            None => out.u8(0),
            Some(mode) => {
                out.u8(1);
                out.u8(mode as u8);
            }
        }
        // A path is never empty, so an empty text means "none".
        out.text(self.control.as_deref().unwrap_or_default(), MAX_TO_WORKER);
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            fallback: input.fallback()?,
            release: input.u64()?,
            listeners: [input.listener()?, input.listener()?, input.listener()?],
            account: input.account()?,
            confinement: input.confinement()?,
            control_from: input.listener()?,
            restarts: input.u32()?,
            blocked_base: input.u64()?,
            mode: match input.u8()? {
                0 => None,
                1 => Some(input.mode()?),
                _ => return Err(Malformed),
            },
            control: Some(input.text()?).filter(|path| !path.is_empty()),
        })
    }
}
