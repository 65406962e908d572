//! Other processes of this machine, as the kernel reports them in `/proc`. Linux only.

use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The resident memory of a process, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub resident: u64,
    /// Now, without files.
    pub anonymous: u64,
}

/// The process's `/proc/PID/status`; `None` if it does not exist.
pub fn status(pid: u32) -> Option<String> {
    std::fs::read_to_string(file(pid, "status")).ok()
}

/// A field of [`status`]; the process must exist.
#[track_caller]
pub fn status_field(pid: u32, name: &str) -> String {
    let status = status(pid).unwrap_or_else(|| panic!("process {pid} does not exist"));
    find_field(&status, name)
        .unwrap_or_else(|| panic!("no {name} in\n{status}"))
        .to_owned()
}

/// A field of a text in the form of `proc_pid_status(5)`.
pub fn find_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = status.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim())
}

/// The words of a process's command line, with spaces between them; empty if it does not exist.
pub fn command_line(pid: u32) -> String {
    let words = std::fs::read(file(pid, "cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).replace('\0', " ");
    words.trim_end().to_owned()
}

/// Whether a process has ended, even if its parent has not reaped it yet.
pub fn has_ended(pid: u32) -> bool {
    status(pid).is_none_or(|status| status.contains("State:\tZ"))
}

/// The existing descendants of a process, at any depth.
pub fn descendants(ancestor: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![ancestor];
    while let Some(parent) = open.pop() {
        let children = children(parent);
        found.extend(&children);
        open.extend(children);
    }
    found
}

/// The existing children of a process.
pub fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("a Linux machine");
    let parent_of = |pid: u32| find_field(&status(pid)?, "PPid")?.parse::<u32>().ok();
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect()
}

/// The memory of a process.
#[track_caller]
pub fn memory(pid: u32) -> Memory {
    let value = |name: &str| {
        let value = status_field(pid, name);
        let number = value.trim_end_matches(" kB").parse();
        number.unwrap_or_else(|error| panic!("{name} is {value:?}: {error}"))
    };
    Memory {
        resident: value("VmRSS"),
        anonymous: value("RssAnon"),
    }
}

/// Ends a process with SIGKILL; does nothing if it has ended already.
pub fn kill_process(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
    let killed = kill(pid, Signal::SIGKILL);
    assert!(
        matches!(killed, Ok(()) | Err(nix::Error::ESRCH)),
        "{killed:?}"
    );
}

fn file(pid: u32, name: &str) -> PathBuf {
    PathBuf::from("/proc").join(pid.to_string()).join(name)
}
