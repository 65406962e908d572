//! A program under measurement: started, watched in `/proc`, and ended with all its descendants.
//!
//! Only processes that this one started are ended, each by its id.

use std::collections::HashMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::machine;
use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(4);
const POLL_INTERVAL: Duration = Duration::from_micros(500);

/// A program that accepts connections on all its ports.
pub(crate) struct Running {
    child: Child,
    /// From the start of the process until every port accepted.
    pub(crate) start: Duration,
}

/// Where a program's standard error goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    /// The file `log` in its folder.
    File,
    /// Nowhere, for a program that logs each connection.
    Discarded,
}

/// A process in `/proc`.
struct Entry {
    parent: i32,
    /// User and system time, reaped children included.
    ticks: u64,
    /// When it started, in ticks since the system did. With the id it names one process.
    begun: u64,
}

impl Running {
    /// Starts a program in a folder of its own, and waits until these ports of loopback accept.
    ///
    /// # Errors
    ///
    /// It does not start, it ends, or a port does not accept within 20 seconds.
    pub(crate) fn start(
        command: &mut Command,
        folder: &Path,
        log: Log,
        ports: &[u16],
    ) -> anyhow::Result<Self> {
        let stderr = match log {
            Log::File => File::create(folder.join("log"))?.into(),
            Log::Discarded => Stdio::null(),
        };
        let begun = Instant::now();
        let child = command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let mut running = Self {
            child,
            start: Duration::ZERO,
        };
        for port in ports {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_err() {
                let ended = running.child.try_wait()?;
                if ended.is_some() || begun.elapsed() > START_TIMEOUT {
                    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
                    bail!("it does not accept on port {port}: {}", log.trim());
                }
                sleep(POLL_INTERVAL);
            }
        }
        running.start = begun.elapsed();
        Ok(running)
    }

    /// CPU time of the whole process tree since its start.
    pub(crate) fn cpu(&self) -> Duration {
        cpu(self.id())
    }

    /// The proportional set size of the process tree, in KiB. `None` if this user may not read it.
    pub(crate) fn memory(&self) -> Option<f64> {
        tree(self.id(), &processes())
            .iter()
            .map(|id| pss(*id))
            .sum()
    }

    /// Whether the first process still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn id(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    fn signal(id: i32, signal: Signal) {
        if let Some(id) = Pid::from_raw(id) {
            // It may have ended meanwhile.
            let _ = kill_process(id, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let all = processes();
        let descendants = tree(self.id(), &all);
        if self.is_alive() {
            Self::signal(self.id(), Signal::TERM);
        }
        let begun = Instant::now();
        while self.is_alive() && begun.elapsed() < STOP_TIMEOUT {
            sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let left = processes();
        for id in descendants {
            let is_left = |entry: &Entry| entry.begun == all[&id].begun;
            if left.get(&id).is_some_and(is_left) {
                Self::signal(id, Signal::KILL);
            }
        }
    }
}

/// CPU time of a process and its descendants since their start.
pub(crate) fn cpu(root: i32) -> Duration {
    let all = processes();
    let tree = tree(root, &all);
    machine::ticks(tree.iter().map(|id| all[id].ticks).sum())
}

/// A port of loopback that was free a moment ago.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// All processes of this machine.
fn processes() -> HashMap<i32, Entry> {
    let Ok(folders) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    folders
        .flatten()
        .filter_map(|folder| {
            let id = folder.file_name().to_str()?.parse().ok()?;
            let text = fs::read_to_string(folder.path().join("stat")).ok()?;
            Some((id, entry(&text)?))
        })
        .collect()
}

/// Reads a `stat` file (`proc_pid_stat(5)`). The name in it may hold spaces and parentheses.
fn entry(text: &str) -> Option<Entry> {
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    // `utime`, `stime`, `cutime`, `cstime`: fields 14 to 17, and `fields` begins with field 3.
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>());
    Some(Entry {
        parent: fields.get(1)?.parse().ok()?,
        ticks: ticks.sum::<Result<u64, _>>().ok()?,
        begun: fields.get(19)?.parse().ok()?,
    })
}

/// A process and its descendants, without those that have ended.
fn tree(root: i32, all: &HashMap<i32, Entry>) -> Vec<i32> {
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(id) = next.pop() {
        if all.contains_key(&id) {
            found.push(id);
            let children = all.iter().filter(|(_, entry)| entry.parent == id);
            next.extend(children.map(|(id, _)| *id));
        }
    }
    found
}

fn pss(id: i32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_may_hold_anything() {
        let text = "7 (a) (b) S 5 7 7 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 9";
        let entry = entry(text).expect("a stat line");
        assert_eq!((entry.parent, entry.ticks, entry.begun), (5, 10, 9));
    }

    #[test]
    fn a_tree_holds_grandchildren_and_no_strangers() {
        let entry = |parent| Entry {
            parent,
            ticks: 0,
            begun: 0,
        };
        let all = HashMap::from([(2, entry(1)), (3, entry(2)), (4, entry(3)), (5, entry(1))]);
        let mut tree = tree(2, &all);
        tree.sort_unstable();
        assert_eq!(tree, [2, 3, 4]);
    }
}
