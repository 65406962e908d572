//! The credential broker: programs of a session hold dummies of their credentials, and the real values
//! appear only on the way to where they belong (SPEC B3-B15).
//!
//! Everything here is a pure function of bytes and header fields. Sockets, decompression and the
//! decision stay with `http`. The content codings of an answer are undone before [`scrubber`] sees it.
//!
//! - `supply` takes the values that a launcher gives, and those that were read with the configuration, `store` has those of a session, and `dummy` the texts
//!   that stand for them.
//! - `renewal` has sources read again.
//! - `selection` puts values into the fields of requests.
//! - `tripwire` finds dummies in requests, where they must not be; `registry` has those of all sessions.
//! - `scrubber` replaces values in answers.
//! - `predicted` says what a hypothetical request may carry.
//! - `needles` finds byte strings in a stream, and `value_search` values in the forms of `escapes` and
//!   `encodings`.

mod dummy;
mod encodings;
mod escapes;
mod needles;
mod predicted;
mod registry;
mod renewal;
mod scrubber;
mod selection;
mod store;
mod supply;
mod tripwire;
mod value_search;

/// Stands for the clients without a session where dummies have the name of theirs. No session has it.
pub(crate) const NO_SESSION: &str = "";

pub use predicted::{CredentialFitness, PredictedCredential};
pub(crate) use registry::{DummyOwner, DummyRegistry, RegisteredDummies, RequestPart, Sender};
pub use renewal::CredentialReader;
pub(crate) use renewal::{RenewableValues, Renewals};
pub(crate) use scrubber::{CurrentScrubber, ScrubbedStream, Scrubber};
pub(crate) use selection::InjectionError;
pub use store::CredentialInfo;
pub(crate) use store::{Credential, CredentialError, RequestPlace, SessionCredentials};
pub use supply::LauncherCredentials;
pub(crate) use supply::{LackingCredential, Supply, supply};
pub(crate) use tripwire::SearchedContent;
