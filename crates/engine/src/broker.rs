//! The credential broker: programs of a session hold dummies of their credentials, and the real values
//! appear only on the way to where they belong (SPEC B3-B15).
//!
//! Everything here is a pure function of bytes and header fields. Sockets, decompression and the
//! decision stay with `http`. The content codings of an answer are undone before [`scrubber`] sees it.
//!
//! - `store` has the values of a session, `dummy` the texts that stand for them, `variables` what its programs
//!   get.
//! - `selection` puts values into the fields of requests.
//! - `tripwire` finds dummies in requests, where they must not be; `registry` has those of all sessions.
//! - `scrubber` replaces values in answers.
//! - `needles` finds byte strings in a stream. `encodings` has the forms in which they are written.

mod dummy;
mod encodings;
mod needles;
mod registry;
mod scrubber;
mod selection;
mod store;
mod tripwire;
mod variables;
