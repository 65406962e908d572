//! A lock that other users cannot take: it is on a file that only its owner may open.
//!
//! A user may lock every file that they may open. A lock on a directory that all users may read
//! could be kept for ever by any of them. Every wait here has a limit.

use std::fs::{File, Permissions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::Uid;

/// Pause between two attempts to take the lock.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// Longest text that is read from the file: enough for a process id.
const MAX_PID_BYTES: u64 = 32;

/// A lock that is held until it is dropped. Its file is removed then.
#[derive(Debug)]
pub struct FileLock {
    file: Flock<File>,
    path: PathBuf,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it and did not release it in time.
    #[error("{} is locked by {}", path.display(), holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    Held {
        /// The lock's file.
        path: PathBuf,
        /// The process that holds it, if it wrote its id.
        holder: Option<u32>,
    },
    /// The name is taken by a file that is not a lock of this user.
    #[error("{path} is not a lock file of user {user}; remove it: rm {path}", path = path.display(), user = Uid::effective())]
    Foreign {
        /// The file's path.
        path: PathBuf,
    },
    /// A system error.
    #[error("cannot lock {path}: {error}", path = path.display())]
    Io {
        /// The lock's file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl FileLock {
    /// Takes the lock with the file `path` plus `.lock`. Waits at most `timeout` for another process
    /// to release it.
    ///
    /// # Errors
    ///
    /// Returns an error if another process holds it for longer, or its file cannot be created.
    pub fn beside(path: &Path, timeout: Duration) -> Result<Self, LockError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let deadline = Instant::now() + timeout;
        loop {
            let failed = |error| LockError::Io {
                path: path.clone(),
                error,
            };
            let file = open(&path)?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => {
                    // The last holder has removed the file, perhaps after it was opened here.
                    if is_at(&path, &file).map_err(failed)? {
                        let mut lock = Self { file, path };
                        lock.write_pid();
                        return Ok(lock);
                    }
                }
                Err((mut file, nix::Error::EWOULDBLOCK)) => {
                    if Instant::now() >= deadline {
                        let holder = read_pid(&mut file);
                        return Err(LockError::Held { path, holder });
                    }
                    std::thread::sleep(RETRY_INTERVAL);
                }
                Err((_, error)) => return Err(failed(error.into())),
            }
        }
    }

    /// Writes the id of this process for waiting processes. A failure does not matter.
    fn write_pid(&mut self) {
        let pid = format!("{}\n", std::process::id());
        let _ = self
            .file
            .set_len(0)
            .and_then(|()| self.file.write_all(pid.as_bytes()));
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // The file is removed while it is locked, so it is not the file of another process. If the
        // removal fails, the next process locks the same file.
        if is_at(&self.path, &self.file).unwrap_or(false) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn open(path: &Path) -> Result<File, LockError> {
    let foreign = || LockError::Foreign {
        path: path.to_owned(),
    };
    let failed = |error| LockError::Io {
        path: path.to_owned(),
        error,
    };
    let opened = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        // A link, a socket, a directory.
        Err(error)
            if [nix::Error::ELOOP, nix::Error::ENXIO, nix::Error::EISDIR]
                .iter()
                .any(|not| error.raw_os_error() == Some(*not as i32)) =>
        {
            return Err(foreign());
        }
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.uid() != Uid::effective().as_raw() || metadata.nlink() > 1 {
        return Err(foreign());
    }
    if metadata.mode() & 0o7777 != 0o600 {
        file.set_permissions(Permissions::from_mode(0o600))
            .map_err(failed)?;
    }
    Ok(file)
}

/// Whether the file still has its name.
fn is_at(path: &Path, file: &File) -> io::Result<bool> {
    let held = file.metadata()?;
    match path.symlink_metadata() {
        Ok(there) => Ok((there.dev(), there.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut pid = String::new();
    file.rewind().ok()?;
    file.take(MAX_PID_BYTES).read_to_string(&mut pid).ok()?;
    pid.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn l4_only_the_owner_may_open_the_file_of_a_lock_and_it_is_removed_on_release() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("control.sock");
        let file = directory.path().join("control.sock.lock");
        let lock = FileLock::beside(&at, SHORT).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
        drop(lock);
        assert!(!file.exists());
    }

    #[test]
    fn l4_the_wait_for_a_lock_times_out_and_the_error_names_the_holder() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("ca.key");
        let _lock = FileLock::beside(&at, SHORT).unwrap();
        let refused = FileLock::beside(&at, SHORT).unwrap_err().to_string();
        let holder = format!("is locked by process {}", std::process::id());
        assert!(refused.ends_with(&holder), "{refused}");
    }

    #[test]
    fn l4_a_waiting_process_gets_a_released_lock() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("ca.key");
        let first = FileLock::beside(&at, SHORT).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| FileLock::beside(&at, Duration::from_secs(60)));
            drop(first);
            second.join().unwrap().unwrap();
        });
    }

    #[test]
    fn l4_a_link_pipe_or_socket_in_the_locks_place_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("ca.key");
        let place = directory.path().join("ca.key.lock");
        let precious = directory.path().join("precious");
        std::fs::write(&precious, "precious").unwrap();
        std::fs::set_permissions(&precious, Permissions::from_mode(0o644)).unwrap();
        let put: [&dyn Fn(); 4] = [
            &|| std::os::unix::fs::symlink(&precious, &place).unwrap(),
            &|| std::fs::hard_link(&precious, &place).unwrap(),
            &|| nix::unistd::mkfifo(&place, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            &|| drop(std::os::unix::net::UnixListener::bind(&place).unwrap()),
        ];
        for put in put {
            put();
            let refused = FileLock::beside(&at, Duration::from_secs(600)).unwrap_err();
            assert!(matches!(refused, LockError::Foreign { .. }), "{refused}");
            std::fs::remove_file(&place).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
        assert_eq!(precious.metadata().unwrap().mode() & 0o7777, 0o644);
    }
}
