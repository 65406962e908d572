//! The network that the sockets of a session are in: this process's own, or that of a jail (SPEC P6).

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::is_here;
#[cfg(target_os = "linux")]
pub(super) use linux::is_here;
