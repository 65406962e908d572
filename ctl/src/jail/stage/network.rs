//! The network of the jail: the loopback interface, on which every address is local, and rules that
//! redirect TCP to the transparent door.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;
use std::process::{Child, Stdio};

use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use crate::jail::TRANSPARENT_PORT;
use crate::system_tool;

/// The loopback interface is always the first one of a network namespace.
const LOOPBACK: u32 = 1;
/// Bytes before a netlink message's content.
const HEADER: usize = 16;
/// Directories that hold `nft`. The `PATH` of an ordinary user often lacks them.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Brings the loopback interface up, and makes every address an address of this machine: a packet that
/// meets no listener is answered at once, and nothing leaves.
pub(super) fn bring_up() -> io::Result<()> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let request = |kind: u16, flags: i32, content: &[u8]| -> io::Result<()> {
        let message = message(kind, flags, content)?;
        send(netlink.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = [0; 1024];
        let read = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        acknowledgement(&answer[..read])
    };
    request(libc::RTM_NEWLINK, 0, &link_up())?;
    let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let v4 = local_route(libc::AF_INET, &Ipv4Addr::LOCALHOST.octets());
    request(libc::RTM_NEWROUTE, create, &v4)?;
    let v6 = local_route(libc::AF_INET6, &Ipv6Addr::LOCALHOST.octets());
    match request(libc::RTM_NEWROUTE, create, &v6) {
        // Without IPv6 there is no address to reach.
        Err(error) if is_without_ipv6(&error) => Ok(()),
        outcome => outcome,
    }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    let without = [libc::EAFNOSUPPORT, libc::EOPNOTSUPP, libc::EACCES];
    error
        .raw_os_error()
        .is_some_and(|error| without.contains(&error))
}

fn message(kind: u16, flags: i32, content: &[u8]) -> io::Result<Vec<u8>> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let length = u32::try_from(HEADER + content.len()).map_err(invalid)?;
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags).map_err(invalid)?;
    let mut bytes = Vec::with_capacity(HEADER + content.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence number and sender: the kernel fills in the sender.
    bytes.extend([0; 8]);
    bytes.extend(content);
    Ok(bytes)
}

/// The error number of an acknowledgement (`struct nlmsgerr`).
fn acknowledgement(answer: &[u8]) -> io::Result<()> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "a malformed netlink answer");
    let number = |at: usize| answer.get(at..)?.first_chunk::<4>();
    let kind = answer.get(4..).and_then(<[u8]>::first_chunk::<2>);
    let kind = u16::from_ne_bytes(*kind.ok_or_else(malformed)?);
    if i32::from(kind) != libc::NLMSG_ERROR {
        return Err(malformed());
    }
    match i32::from_ne_bytes(*number(HEADER).ok_or_else(malformed)?) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// `struct ifinfomsg`: the loopback interface, and the flag that changes.
fn link_up() -> Vec<u8> {
    let up = libc::IFF_UP.cast_unsigned();
    let mut bytes = vec![0; 4];
    for number in [LOOPBACK, up, up] {
        bytes.extend(number.to_ne_bytes());
    }
    bytes
}

/// `struct rtmsg` and its attributes: every address is local, on the loopback interface. Connections to
/// it come from `source`.
fn local_route(family: i32, source: &[u8]) -> Vec<u8> {
    let mut bytes = vec![
        u8::try_from(family).unwrap_or(0),
        // Lengths of the destination and of the source, type of service.
        0,
        0,
        0,
        libc::RT_TABLE_LOCAL,
        libc::RTPROT_STATIC,
        libc::RT_SCOPE_HOST,
        libc::RTN_LOCAL,
        // Flags.
        0,
        0,
        0,
        0,
    ];
    for (kind, value) in [
        (libc::RTA_OIF, LOOPBACK.to_ne_bytes().as_slice()),
        (libc::RTA_PREFSRC, source),
    ] {
        let length = u16::try_from(4 + value.len()).unwrap_or(0);
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
    }
    bytes
}

/// The rules: every TCP connection to another address than loopback leads to the transparent door. The
/// kernel remembers where it wanted to go.
fn rules() -> String {
    format!(
        "table inet jail {{\n\
         chain out {{\n\
         type nat hook output priority -100; policy accept;\n\
         ip daddr 127.0.0.0/8 return\n\
         ip6 daddr ::1 return\n\
         meta l4proto tcp redirect to :{TRANSPARENT_PORT}\n\
         }}\n\
         }}\n"
    )
}

/// Starts `nft` with the rules. It works while the listeners are bound.
pub(super) fn start_rules() -> Result<Child, String> {
    let places = DIRECTORIES.map(|directory| format!("{directory}/nft"));
    let Some(nft) = places
        .iter()
        .find(|place| std::fs::exists(place).unwrap_or(false))
    else {
        return Err("nft is not installed (package nftables)".to_owned());
    };
    let start = || -> io::Result<Child> {
        let mut child = system_tool::command(nft)
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(rules().as_bytes())?;
        }
        Ok(child)
    };
    start().map_err(|error| format!("cannot run {nft}: {error}"))
}

/// Waits for `nft`. Its error is the reason.
pub(super) fn finish_rules(rules: Child) -> Result<(), String> {
    let output = rules
        .wait_with_output()
        .map_err(|error| format!("cannot wait for nft: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let first = complaint.lines().next().unwrap_or("it gave no reason");
    Err(format!("nft failed: {first}"))
}
