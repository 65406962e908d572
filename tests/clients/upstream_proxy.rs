//! Real upstream proxies (SPEC H12): curl, then the daemon, then squid or tinyproxy, then the
//! origin.
//!
//! The daemon sends only public targets through a proxy, and no origin of the tests is public. So
//! the target's address is one without a route, and the real proxy forwards everything to a small
//! one that knows the origin.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::port::Reserved;
use e2e::program::{Program, Run};
use e2e::tls::TestCa;
use e2e::upstream_proxy::UpstreamProxy;
use e2e::wait::poll;
use tempfile::TempDir;

/// A public address that no host uses: its range was given back (RFC 3701).
const NOWHERE: Ipv6Addr = Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 1);
const TIMEOUT: Duration = Duration::from_secs(30);

/// A real proxy, in a directory of its own.
struct Real {
    child: Child,
    addr: SocketAddr,
    /// Both set `SO_REUSEADDR`, and so may listen on it.
    _place: Reserved,
    _directory: TempDir,
}

impl Real {
    fn tinyproxy(next: SocketAddr) -> Self {
        Self::start(|directory, addr| {
            let file = directory.join("tinyproxy.conf");
            let text = format!(
                "Port {}\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nBasicAuth agent s3cret\n\
                 Upstream http {next}\nUser nobody\nGroup nogroup\n",
                addr.port()
            );
            std::fs::write(&file, text).expect("a configuration");
            let mut command = Command::new("tinyproxy");
            command.arg("-d").arg("-c").arg(file);
            command
        })
    }

    fn squid(next: SocketAddr) -> Self {
        Self::start(|directory, addr| {
            let file = directory.join("squid.conf");
            let directory = directory.display();
            let text = format!(
                "http_port {addr}\nhttp_access allow all\ncache deny all\n\
                 cache_peer 127.0.0.1 parent {} 0 no-query no-digest default\nnever_direct allow all\n\
                 pid_filename {directory}/squid.pid\ncache_log {directory}/cache.log\naccess_log none\n\
                 coredump_dir {directory}\npinger_enable off\nshutdown_lifetime 1 seconds\n\
                 visible_hostname squid.test\n",
                next.port()
            );
            std::fs::write(&file, text).expect("a configuration");
            let mut command = Command::new("squid");
            command.args(["--foreground", "-N", "-f"]).arg(file);
            command
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the test asks its own proxy whether it accepts"
    )]
    fn start(prepare: impl FnOnce(&Path, SocketAddr) -> Command) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        // Both drop root and write here after that.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(directory.path(), open).expect("the directory is ours");
        let place = Reserved::open();
        let addr = place.address();
        let child = prepare(directory.path(), addr)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the proxy can be run");
        let real = Self {
            child,
            addr,
            _place: place,
            _directory: directory,
        };
        poll(TIMEOUT, || TcpStream::connect(addr).ok()).expect("the proxy accepts");
        real
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn curl(daemon: &Daemon, url: &str, ca: &TestCa) -> Run {
    Program::new("curl")
        .args(["--silent", "--show-error", "--fail-with-body", "--proxy"])
        .arg(format!("http://{}", daemon.http_addr()))
        .arg("--cacert")
        .arg(ca.file())
        .arg(url)
        .run()
}

/// curl reaches an origin of HTTP and one of HTTPS through both proxies, and a refused request reaches
/// neither.
fn carries(real: fn(SocketAddr) -> Real) {
    let ca = TestCa::new();
    let answer = |_: &_| Answer::text("from afar");
    let plain = Origin::start(answer);
    let secure = Origin::answering(answer).tls(&ca, &["far.test"]).start();
    for (origin, url) in [
        (&plain, "http://far.test/a"),
        (&secure, "https://far.test/a"),
    ] {
        let last = UpstreamProxy::start(origin.addr());
        let real = real(last.addr());
        let config = Config::new()
            .allow("far.test")
            .host("far.test", IpAddr::from(NOWHERE));
        let proxy = format!("http://agent:s3cret@{}", real.addr);
        let daemon = Daemon::launch()
            .config(&config)
            .env("ALL_PROXY", proxy)
            .start();
        curl(&daemon, url, &ca).succeeded().says("from afar");
        assert_eq!(origin.requests().len(), 1);
        let before = last.heads().len();
        let refused = curl(&daemon, &url.replace("far", "blocked"), &ca);
        refused.failed().says("403");
        assert_eq!(last.heads().len(), before);
    }
}

#[test]
fn h12_tinyproxy_gets_allowed_requests_only() {
    carries(Real::tinyproxy);
}

#[test]
fn h12_squid_gets_allowed_requests_only() {
    carries(Real::squid);
}

#[test]
fn h12_h8_a_proxy_that_wants_credentials_is_named_in_the_error() {
    let origin = Origin::start(|_| Answer::text("from afar"));
    let real = Real::tinyproxy(origin.addr());
    let config = Config::new()
        .allow("far.test")
        .host("far.test", IpAddr::from(NOWHERE));
    let daemon = Daemon::launch()
        .config(&config)
        // No credentials at all: it answers wrong ones with 401, like an origin.
        .env("ALL_PROXY", format!("http://{}", real.addr))
        .start();
    let ca = TestCa::new();
    let run = curl(&daemon, "http://far.test/", &ca);
    run.failed()
        .says("the upstream proxy wants other credentials");
    let run = curl(&daemon, "https://far.test/", &ca);
    run.failed().says("502");
    assert_eq!(origin.connections(), 0);
}
