//! The credential broker: programs of a session hold dummies of their credentials, and the real values
//! appear only on the way to where they belong (SPEC B3-B15).
//!
//! Everything here is a pure function of bytes and header fields. Sockets, decompression and the
//! decision stay with `http`. The content codings of an answer are undone before [`scrubber`] sees it.
//!
//! - `needles` finds byte strings in a stream. `encodings` has the forms in which they are written.
//! - `scrubber` replaces real values in answers, and `tripwire` finds dummies in requests.

mod encodings;
mod needles;
mod scrubber;
mod tripwire;
