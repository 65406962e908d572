//! CONNECT: dials first, answers then, and gives a tunnel that carries only bytes (SPEC H8, H5, P6,
//! P11).

mod answers;
mod bytes;
mod ends;
mod own;
