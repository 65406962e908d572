//! Pipes for moving bytes from one socket to another within the kernel (`splice(2)`).
//!
//! A pipe is taken from the [`PipePool`] while bytes flow, and returned when it is empty. A pipe that still
//! holds bytes is closed instead, so the bytes of one tunnel never reach another one. A caller that gets no
//! pipe copies the bytes.
//!
//! Only Linux has `splice`. On other systems the pool never has a pipe.

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
pub(crate) use self::elsewhere::{Pipe, PipePool};
#[cfg(target_os = "linux")]
pub(crate) use self::linux::{Pipe, PipePool};

/// The size of a pipe in bytes: the largest that an unprivileged process may have (`pipe(7)`,
/// `pipe-max-size`). The worker's sandbox permits this size.
pub const PIPE_BYTES: usize = 1024 * 1024;

/// Whether the process ignores `SIGPIPE`. A `splice` to a broken connection sends this signal, which a `send`
/// can avoid (`splice(2)`, `send(2)`: `MSG_NOSIGNAL`). By default, the signal ends the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BrokenPipeSignal {
    /// The process ignores it and goes on to do so, as programs in Rust do by default.
    Ignored,
    /// The engine reads it from `/proc/self/status`. Where it is not ignored, or this file cannot be read,
    /// tunnels copy their bytes.
    #[default]
    Unknown,
}
