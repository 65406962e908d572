//! CONNECT: dialled first, answered then, and a tunnel that is nothing but bytes (SPEC H8, H5, P6, P11).

mod answers;
mod bytes;
mod ends;
mod own;
