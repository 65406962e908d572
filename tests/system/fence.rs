//! The firewall of `packaging/fleet` in front of a network: only the proxy reaches the network, so
//! programs cannot avoid its policy.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::mpsc;
use std::thread;

use e2e::daemon::Config;
use e2e::wait::{TIMEOUT, poll};
use nix::sched::{CloneFlags, setns};

use crate::machine::tree;
use crate::service::Service;

/// The machine's end of the cable, and the other (RFC 5737, RFC 3849).
const FAR: &str = "198.51.100.2";
const FAR6: &str = "2001:db8::2";
const CABLE: &str = "
    ip netns add far &&
    ip link add near type veth peer name far netns far &&
    ip addr add 198.51.100.1/24 dev near && ip -6 addr add 2001:db8::1/64 dev near nodad &&
    ip link set near up &&
    ip -n far addr add 198.51.100.2/24 dev far && ip -n far -6 addr add 2001:db8::2/64 dev far nodad &&
    ip -n far link set far up && ip -n far link set lo up
";

/// Another machine: a network namespace with a virtual cable to it.
struct Far<'s> {
    service: &'s Service,
    http: u16,
    datagrams: UdpSocket,
}

impl<'s> Far<'s> {
    fn connect(service: &'s Service) -> Self {
        let sh = |script: &str| service.machine().run(["sh", "-c", script]);
        sh(UNPLUG);
        sh(CABLE).succeeded();
        let network = File::open(service.machine().path("/run/netns/far")).expect("it was made");
        let (sender, opened) = mpsc::channel();
        // Only this thread, and those that it starts, are in that network.
        thread::spawn(move || {
            setns(network, CloneFlags::CLONE_NEWNET).expect("root enters any network");
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("a free port");
            let datagrams = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
            let http = listener.local_addr().expect("an address").port();
            sender.send((http, datagrams)).expect("the test waits");
            serve(&listener);
        });
        let (http, datagrams) = opened.recv().expect("the thread runs");
        datagrams.set_nonblocking(true).expect("it is open");
        Self {
            service,
            http,
            datagrams,
        }
    }

    /// Whether a user reaches the other machine with curl.
    fn is_reached(&self, user: &str, address: &str, options: &[&str]) -> bool {
        let url = format!("http://{address}:{}/", self.http);
        let curl = [
            "runuser",
            "-u",
            user,
            "--",
            "curl",
            "-sS",
            "--max-time",
            "20",
            "--fail",
        ];
        let command = curl.iter().chain(options).copied().chain([url.as_str()]);
        let run = self.service.machine().run(command);
        assert_ne!(
            run.code,
            Some(28),
            "refused, or done, but not lost: {run:#?}"
        );
        run.code == Some(0) && run.stdout == "from afar"
    }

    fn send_datagram(&self) {
        let port = self.datagrams.local_addr().expect("an address").port();
        let script = format!("echo x >/dev/udp/{FAR}/{port}");
        self.service.machine().run(["bash", "-c", &script]);
    }

    fn datagram_came(&self) -> bool {
        self.datagrams.recv(&mut [0; 8]).is_ok()
    }
}

/// The rules and the cable, whose ends go with their network.
const UNPLUG: &str = "
    nft delete table inet codex_network_proxy 2>/dev/null
    ip link delete near 2>/dev/null
    ip netns delete far 2>/dev/null
";

impl Drop for Far<'_> {
    fn drop(&mut self) {
        self.service.machine().run(["sh", "-c", UNPLUG]);
    }
}

fn serve(listener: &TcpListener) {
    for mut stream in listener.incoming().flatten() {
        let mut head = [0; 4096];
        // A request of curl's fits into one segment. A client that closes gets nothing.
        if stream.read(&mut head).is_ok_and(|read| read > 0) {
            let answer =
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nfrom afar";
            let _ = stream.write_all(answer.as_bytes());
        }
    }
}

fn rules() -> Vec<u8> {
    std::fs::read(tree().join("packaging/fleet/nftables.conf")).expect("the rules")
}

#[test]
fn d1_behind_the_fence_only_the_proxy_reaches_other_machines() {
    let service = Service::new();
    let far = Far::connect(&service);
    let far_http: SocketAddr = format!("{FAR}:{}", far.http).parse().expect("an address");
    service.configure(&Config::example().allow(FAR).allow(FAR6));
    service.start();
    let addresses = [FAR.to_owned(), format!("[{FAR6}]")];
    let proxy = ["-x", "http://127.0.0.1:3128"];
    let socks5 = ["-x", "socks5h://127.0.0.1:8081"];

    // Without the rules the network can be reached past the proxy.
    for address in &addresses {
        assert!(far.is_reached("nobody", address, &[]), "{address}");
    }
    far.send_datagram();
    poll(TIMEOUT, || far.datagram_came().then_some(())).expect("it arrives");

    service.machine().write("/etc/nftables.conf", rules());
    let load = ["nft", "-f", "/etc/nftables.conf"];
    service.machine().run(load).succeeded();
    // Loading them again replaces them.
    service.machine().run(load).succeeded();

    for address in &addresses {
        for user in ["nobody", "root"] {
            assert!(
                !far.is_reached(user, address, &[]),
                "{user} gets to {address}"
            );
            assert!(far.is_reached(user, address, &proxy), "{user}, {address}");
            assert!(far.is_reached(user, address, &socks5), "{user}, {address}");
        }
        // The permitted user is the worker's, and only root can start a process as that user.
        assert!(
            far.is_reached("codex-network-proxy", address, &[]),
            "{address}"
        );
    }
    far.send_datagram();
    // The policy still applies.
    service.configure(&Config::example());
    service
        .systemctl(&["reload", crate::service::SERVICE])
        .succeeded();
    assert!(!far.is_reached("nobody", FAR, &proxy));
    // It would have arrived by now.
    assert!(!far.datagram_came(), "a datagram went past the proxy");
    let (status, body) = service.get(&format!("http://{far_http}/"));
    assert_eq!(status, 403, "{body}");
}

#[test]
fn d1_nft_accepts_the_rules_of_the_fence() {
    let service = Service::new();
    service.machine().write("/etc/nftables.conf", rules());
    service
        .machine()
        .run(["nft", "--check", "--file", "/etc/nftables.conf"])
        .succeeded();
}
