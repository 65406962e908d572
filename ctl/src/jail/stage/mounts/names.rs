//! The files by which programs look names up. In a jail, every name is one for the policy DNS, but for names of the
//! jail's own loopback.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use codex_network_files::Reading;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{NOTHING, PLAIN, read_only, step};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// The files, while their file system is mounted on `/proc`.
const PLACES: [(&str, &str); 2] = [("/proc/resolv.conf", RESOLV_CONF), ("/proc/hosts", HOSTS)];
/// Their file system.
const SIZE: &str = "size=64k,mode=755";
/// The content of `/etc/resolv.conf`: the policy DNS.
const NAME_SERVER: &str = "nameserver 127.0.0.1\n";
/// The names that every machine has.
const LOCALHOST: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";
/// How much of the machine's `/etc/hosts` is read. With a longer file, only [`LOCALHOST`] is left.
const MAX_HOSTS: u64 = 4 << 20;
/// How many bytes of its lines are kept.
const MAX_KEPT: usize = 32 << 10;

/// Puts files over `/etc/resolv.conf` and `/etc/hosts`. One that the machine does not have is not made: without them,
/// libraries use 127.0.0.1 anyway.
pub(super) fn replace() -> io::Result<()> {
    let places = PLACES.map(|(from, to)| (from, to, fs::exists(to).unwrap_or(false)));
    if places.iter().all(|(_, _, is_there)| !is_there) {
        return Ok(());
    }
    let machine = Reading::up_to(MAX_HOSTS).read_text(Path::new(HOSTS));
    let hosts = hosts(&machine.unwrap_or_default());
    let failed = |error: nix::Error| step("cannot replace the files of names", &error.into());
    // A place for a moment, which every system has. Below, the files are the only thing left of it.
    mount(Some("tmpfs"), "/proc", Some("tmpfs"), PLAIN, Some(SIZE)).map_err(failed)?;
    for ((from, to, is_there), content) in places.into_iter().zip([NAME_SERVER, &hosts]) {
        if is_there {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o444)
                .open(from)?;
            file.write_all(content.as_bytes())?;
            mount(Some(from), to, NOTHING, MsFlags::MS_BIND, NOTHING).map_err(failed)?;
        }
    }
    umount2("/proc", MntFlags::MNT_DETACH).map_err(failed)?;
    for (_, to, is_there) in places {
        if is_there {
            read_only(Path::new(to))
                .map_err(|error| step(&format!("cannot make {to} read-only"), &error))?;
        }
    }
    Ok(())
}

/// The lines of the machine's `/etc/hosts` that lead to the jail's own loopback. Its other names reach the proxy,
/// which judges them by name and looks them up in the whole file.
fn hosts(machine: &str) -> String {
    let mut kept = LOCALHOST.to_owned();
    for line in machine.lines() {
        let address = line.split_whitespace().next();
        let address: Option<IpAddr> = address.and_then(|word| word.parse().ok());
        let fits = kept.len() + line.len() < MAX_KEPT;
        if address.is_some_and(|address| address.is_loopback()) && fits {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t1_only_names_of_the_loopback_stay_in_the_file_of_hosts() {
        let machine = "# comment\n\
                       127.0.1.1\tdesk.example desk # this machine\n\
                       10.1.2.3 registry.example\n\
                       ::1 six.example\n\
                       2001:db8::1 far.example\n\
                       0.0.0.0 blocked.example\n\
                       ::ffff:10.1.2.3 mapped.example\n\
                       127.0.0.1\n\
                       \n\
                       nonsense 127.0.0.1\n";
        assert_eq!(
            hosts(machine).strip_prefix(LOCALHOST),
            Some(
                "127.0.1.1\tdesk.example desk # this machine\n\
                 ::1 six.example\n\
                 127.0.0.1\n"
            )
        );
        assert_eq!(hosts(""), LOCALHOST);
    }

    #[test]
    fn t1_a_long_list_of_blocked_names_fits_the_file_system() {
        let line = format!("127.0.0.1 {}.example\n", "a".repeat(60));
        let hosts = hosts(&line.repeat(10_000));
        assert!(
            (MAX_KEPT - 200..=MAX_KEPT).contains(&hosts.len()),
            "{}",
            hosts.len()
        );
        let last = hosts.lines().last();
        assert_eq!(last, Some(line.trim_end()), "whole lines");
        let long = format!("127.0.0.1 {}\n", "a".repeat(1 << 20));
        assert_eq!(super::hosts(&long), LOCALHOST);
    }
}
