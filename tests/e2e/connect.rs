//! CONNECT: the proxy dials, then answers, and then carries bytes only (SPEC H8, H5, P6,
//! P11).

mod answers;
mod bytes;
mod ends;
mod kept;
mod own;
