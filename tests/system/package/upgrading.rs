//! Installing over an older version that is running.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use e2e::daemon::Config;
use e2e::wait::{TIMEOUT, poll};

use super::{Bare, PACKAGE};
use crate::load::{Load, failures, longest_wait};
use crate::service::{HTTP, NO_STALL, SERVICE, SOCKETS, use_tunnel};

/// A client that sends requests on a kept connection, and on a new one if that was closed between
/// two requests (RFC 9112 section 9.3). It returns the number of its connections, or panics at an
/// answer that is cut off or not the origin's.
struct Keeper {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    thread: JoinHandle<usize>,
}

impl Keeper {
    fn start(url: &str) -> Self {
        let door: SocketAddr = HTTP.parse().expect("an address");
        let (stop, answered) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let host = url.split('/').nth(2).expect("an authority");
        let request = format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let thread = {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || {
                let mut connections = 0;
                while !stop.load(Ordering::Relaxed) {
                    connections += 1;
                    let mut requests = 0;
                    let stream = TcpStream::connect_timeout(&door, TIMEOUT);
                    let stream = stream.expect("the proxy accepts");
                    stream
                        .set_read_timeout(Some(TIMEOUT))
                        .expect("a socket takes options");
                    let mut stream = BufReader::new(stream);
                    while !stop.load(Ordering::Relaxed) && ask(&mut stream, &request) {
                        requests += 1;
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    assert!(
                        requests > 0 || stop.load(Ordering::Relaxed),
                        "a new connection was not served"
                    );
                }
                connections
            })
        };
        Self {
            stop,
            answered,
            thread,
        }
    }

    fn wait_for(&self, more: usize) {
        let enough = self.answered.load(Ordering::Relaxed) + more;
        poll(TIMEOUT, || {
            (self.answered.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .expect("the client gets on with it");
    }

    fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no answer was cut off")
    }
}

/// Sends a request and reads the whole answer of the origin; `false` if the connection was closed
/// before any of it came.
fn ask(stream: &mut BufReader<TcpStream>, request: &str) -> bool {
    if stream.get_mut().write_all(request.as_bytes()).is_err() {
        return false;
    }
    let mut line = String::new();
    if !matches!(stream.read_line(&mut line), Ok(length) if length > 0) {
        return false;
    }
    assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
    let mut length = None;
    while line != "\r\n" {
        line.clear();
        stream
            .read_line(&mut line)
            .expect("a head that is not cut off");
        assert!(!line.is_empty(), "a head that is not cut off");
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
    let mut body = vec![0; length.expect("the origin says how long its answer is")];
    stream
        .read_exact(&mut body)
        .expect("a body that is not cut off");
    assert_eq!(body, b"here");
    true
}

#[test]
fn d1_l15_an_upgrade_and_a_rollback_under_load_affect_no_client() {
    let bare = Bare::new();
    bare.install(PACKAGE).succeeded();
    bare.service.configure(&Config::example());
    bare.service.systemctl(&["reload", SERVICE]).succeeded();
    let origin = bare.service.origin();
    let url = origin.url("allowed.test", "/");
    let monitor = bare.service.monitor();
    let mut tunnel = bare.service.tunnel("allowed.test", &origin);
    let load = Load::start(4, HTTP, &url);
    let keeper = Keeper::start(&url);
    load.wait_for(20);
    keeper.wait_for(20);

    let run = bare.upgrade();
    assert_eq!(run.code, Some(0), "{run:#?}");
    load.wait_for(20);
    keeper.wait_for(20);

    let upgraded = bare.service.monitor();
    assert_ne!(upgraded, monitor, "{run:#?}");
    assert!(bare.runs_what_is_installed());
    use_tunnel(&mut tunnel);

    let mut second = bare.service.tunnel("allowed.test", &origin);
    let run = bare.roll_back();
    assert_eq!(run.code, Some(0), "{run:#?}");
    load.wait_for(20);
    keeper.wait_for(20);
    assert_ne!(bare.service.monitor(), upgraded, "{run:#?}");
    assert!(bare.runs_what_is_installed());
    use_tunnel(&mut second);
    // One worker drains beside the one that serves, and not two.
    tunnel.expect_closed();
    for socket in SOCKETS {
        assert!(bare.is_active(socket), "{socket}");
    }
    let attempts = load.finish();
    assert!(failures(&attempts).is_empty(), "{:#?}", failures(&attempts));
    let longest = longest_wait(&attempts);
    assert!(longest < NO_STALL, "a client waited {longest:?}");
    let connections = keeper.finish();
    assert!(
        connections <= 5,
        "{connections} connections for two restarts"
    );
}

#[test]
fn c7_an_upgrade_with_a_broken_configuration_keeps_the_running_service() {
    let bare = Bare::new();
    bare.install(PACKAGE).succeeded();
    bare.service.configure(&Config::example());
    bare.service.systemctl(&["reload", SERVICE]).succeeded();
    let monitor = bare.service.monitor();
    bare.service
        .configure_text("[network]\nallowed_domains = [\"https://x\"]\n");

    let run = bare.upgrade();
    assert_eq!(run.code, Some(0), "{run:#?}");
    run.says("the service keeps running with its old program and settings");
    run.says("/etc/codex-network-proxy/config.toml:2:");
    run.says("fix it, then run: systemctl restart codex-network-proxy.service");
    assert_eq!(bare.service.monitor(), monitor);
    let origin = bare.service.origin();
    assert_eq!(bare.service.get(&origin.url("allowed.test", "/")).0, 200);

    bare.service.configure(&Config::example());
    bare.service.systemctl(&["restart", SERVICE]).succeeded();
    assert!(bare.runs_what_is_installed());
}

#[test]
fn c7_an_upgrade_with_an_unreachable_link_keeps_the_running_service() {
    let bare = Bare::new();
    bare.install(PACKAGE).succeeded();
    let monitor = bare.service.monitor();
    let link = "mkdir -p /opt/site && cd /etc/codex-network-proxy && rmdir conf.d && ln -s /opt/site conf.d";
    bare.service.machine().run(["sh", "-c", link]).succeeded();
    // Outside the service's root the link is valid.
    let check = bare.service.machine().run(["codex-network-proxy", "check"]);
    check.succeeded();

    let run = bare.upgrade();
    assert_eq!(run.code, Some(0), "{run:#?}");
    run.says("the service keeps running with its old program and settings");
    run.says("/etc/codex-network-proxy/conf.d: cannot be read: it is a link to a file that does not exist");
    assert_eq!(bare.service.monitor(), monitor);
}

#[test]
fn m9_an_upgrade_checks_with_the_environment_of_the_running_service() {
    let bare = Bare::new();
    bare.install(PACKAGE).succeeded();
    bare.service.edit(
        SERVICE,
        "[Service]\nEnvironment=TOKEN_OF_THE_SERVICE=s3cret\n",
    );
    bare.service.configure_text(
        "[network]\nallowed_domains = [\"api.test\"]\n\
         [network.mitm.hooks.read]\nhost = \"api.test\"\nmethods = [\"GET\"]\npath_prefixes = [\"/\"]\n\
         action = [\"sign\"]\n\
         [[network.mitm.actions.sign.inject_request_headers]]\nname = \"authorization\"\n\
         secret_env_var = \"TOKEN_OF_THE_SERVICE\"\n",
    );
    bare.service.systemctl(&["restart", SERVICE]).succeeded();
    let monitor = bare.service.monitor();
    let run = bare.upgrade();
    assert_eq!(run.code, Some(0), "{run:#?}");
    assert_ne!(bare.service.monitor(), monitor, "{run:#?}");
    assert!(bare.runs_what_is_installed());
    assert!(!run.stdout.contains("s3cret"), "{run:#?}");
}
