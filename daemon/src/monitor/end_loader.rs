//! Kills a loader with the programs of credentials that it runs (SPEC B13). Each of them leads a process group. The
//! kernel kills the program itself with the loader, but not the processes that it has started.

use std::io;
use std::process::Child;

/// Kills a loader that was not waited for, and the process groups of its programs.
///
/// # Errors
///
/// The loader cannot be killed.
pub(super) fn kill(loader: &mut Child) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if let Ok(pid) = i32::try_from(loader.id())
        && matches!(loader.try_wait(), Ok(None))
    {
        linux::kill_programs(nix::unistd::Pid::from_raw(pid));
    }
    loader.kill()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    use codex_network_files::Reading;
    use nix::sys::signal::{Signal, kill, killpg};
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    use nix::unistd::Pid;

    /// Most bytes of a list of children. A loader has one for each source.
    const MAX_LIST_BYTES: u64 = 64 << 10;

    /// Kills the process groups of the children of a loader.
    pub(super) fn kill_programs(loader: Pid) {
        // It starts no more, and waits for none: until it is killed, the numbers of its children stay theirs.
        if kill(loader, Signal::SIGSTOP).is_err() {
            return;
        }
        let until = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        if waitid(Id::Pid(loader), until).is_err() {
            return;
        }
        for program in children(loader) {
            // One that has just been started has no group yet. The kernel kills it with the loader.
            let _ = killpg(program, Signal::SIGKILL);
        }
    }

    /// The children of a stopped process. Each thread has its own.
    fn children(process: Pid) -> Vec<Pid> {
        let threads = fs::read_dir(format!("/proc/{process}/task"));
        let threads = threads.into_iter().flatten().flatten();
        let lists = threads.filter_map(|of| {
            let reading = Reading::up_to(MAX_LIST_BYTES);
            reading.read_text(&of.path().join("children")).ok()
        });
        let numbers: Vec<Pid> = lists
            .flat_map(|list| {
                let numbers = list.split_whitespace().filter_map(|word| word.parse().ok());
                numbers.map(Pid::from_raw).collect::<Vec<_>>()
            })
            .collect();
        numbers
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use super::*;

    /// The content of a file that another process writes in one piece.
    fn written(path: &std::path::Path) -> String {
        let begun = Instant::now();
        loop {
            let content = fs::read_to_string(path).unwrap_or_default();
            if content.ends_with('\n') {
                return content.trim().to_owned();
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "nothing");
            sleep(Duration::from_millis(2));
        }
    }

    fn is_alive(pid: &str) -> bool {
        let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = status
            .rsplit(')')
            .next()
            .and_then(|rest| rest.trim().chars().next());
        !matches!(state, None | Some('Z' | 'X'))
    }

    #[test]
    fn b13_what_a_program_started_ends_with_the_loader() {
        let directory = tempfile::tempdir().expect("a directory");
        let started = directory.path().join("started");
        // The loader's program leads a group, and starts another one.
        let script = format!(
            "setsid sh -c 'sleep 1000 & echo $! > {}; wait' & wait",
            started.display()
        );
        let mut loader = Command::new("sh")
            .args(["-c", &script])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("a shell");
        let pid = written(&started);
        assert!(is_alive(&pid));
        kill(&mut loader).expect("our own child");
        loader.wait().expect("our own child");
        let begun = Instant::now();
        while is_alive(&pid) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{pid} lives");
            sleep(Duration::from_millis(2));
        }
        // A second time, it has ended.
        assert!(kill(&mut loader).is_ok());
    }
}
