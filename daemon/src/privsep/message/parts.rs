//! The parts that messages share: problems, accounts, lists and small enumerations.

use super::{
    Account, Confinement, ConnectionEnds, Fallback, ListenerUpdate, MAX_OWNERS_REQUESTED,
    MAX_TO_WORKER, Mode, Problems,
};
use crate::ca::PublicKey;
use crate::privsep::layout::{Malformed, Reader, Writer};

impl Writer {
    /// Each gets half of the room, so that a long text does not displace the detail.
    pub(in crate::privsep) fn problems(&mut self, problems: &Problems) {
        self.text(&problems.text, MAX_TO_WORKER / 2);
        self.text(&problems.detail, MAX_TO_WORKER);
    }

    pub(super) fn count(&mut self, count: usize) {
        self.u16(u16::try_from(count).unwrap_or(u16::MAX));
    }

    pub(super) fn user(&mut self, user: Option<u32>) {
        match user {
            None => self.u8(0),
            Some(user) => {
                self.u8(1);
                self.u32(user);
            }
        }
    }

    pub(in crate::privsep) fn account(&mut self, account: Option<Account>) {
        match account {
            None => self.u8(0),
            Some(Account { uid, gid }) => {
                self.u8(1);
                self.u32(uid);
                self.u32(gid);
            }
        }
    }
}

impl Reader<'_> {
    pub(in crate::privsep) fn problems(&mut self) -> Result<Problems, Malformed> {
        Ok(Problems {
            text: self.text()?,
            detail: self.text()?,
        })
    }

    /// The user of the key checks whether it is a point of the curve.
    pub(super) fn public_key(&mut self) -> Result<PublicKey, Malformed> {
        let key: PublicKey = self.array()?;
        if key[0] == 4 { Ok(key) } else { Err(Malformed) }
    }

    pub(super) fn users(&mut self) -> Result<Vec<Option<u32>>, Malformed> {
        (0..self.count()?).map(|_| self.user()).collect()
    }

    /// A user, if it is known.
    pub(super) fn user(&mut self) -> Result<Option<u32>, Malformed> {
        match self.u8()? {
            0 => Ok(None),
            1 => Ok(Some(self.u32()?)),
            _ => Err(Malformed),
        }
    }

    pub(super) fn connections(&mut self) -> Result<Vec<ConnectionEnds>, Malformed> {
        let ends = |input: &mut Self| {
            Ok(ConnectionEnds {
                client: input.address()?.ok_or(Malformed)?,
                local: input.address()?.ok_or(Malformed)?,
            })
        };
        (0..self.count()?).map(|_| ends(self)).collect()
    }

    /// A count, at most the number that may be requested at once.
    pub(super) fn count(&mut self) -> Result<usize, Malformed> {
        let count = usize::from(self.u16()?);
        Some(count)
            .filter(|count| *count <= MAX_OWNERS_REQUESTED)
            .ok_or(Malformed)
    }

    pub(super) fn mode(&mut self) -> Result<Mode, Malformed> {
        match self.u8()? {
            0 => Ok(Mode::Limited),
            1 => Ok(Mode::Full),
            _ => Err(Malformed),
        }
    }

    pub(super) fn listener(&mut self) -> Result<ListenerUpdate, Malformed> {
        match self.u8()? {
            0 => Ok(ListenerUpdate::Keep),
            1 => Ok(ListenerUpdate::Close),
            2 => Ok(ListenerUpdate::Open),
            3 => Ok(ListenerUpdate::Handed),
            4 => Ok(ListenerUpdate::Shut),
            5 => Ok(ListenerUpdate::Busy),
            _ => Err(Malformed),
        }
    }

    pub(in crate::privsep) fn account(&mut self) -> Result<Option<Account>, Malformed> {
        match self.u8()? {
            0 => Ok(None),
            1 => Ok(Some(Account {
                uid: self.u32()?,
                gid: self.u32()?,
            })),
            _ => Err(Malformed),
        }
    }

    pub(super) fn fallback(&mut self) -> Result<Fallback, Malformed> {
        match self.u8()? {
            0 => Ok(Fallback::None),
            1 => Ok(Fallback::LastGood),
            2 => Ok(Fallback::Closed),
            _ => Err(Malformed),
        }
    }

    pub(in crate::privsep) fn confinement(&mut self) -> Result<Confinement, Malformed> {
        match self.u8()? {
            0 => Ok(Confinement::Off),
            1 => Ok(Confinement::Try),
            2 => Ok(Confinement::Require),
            _ => Err(Malformed),
        }
    }
}
