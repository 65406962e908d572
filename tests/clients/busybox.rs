//! Small programs: the wget of busybox, which many images have instead of GNU wget, and a request
//! typed into netcat, which then closes its sending side.

use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::program::{Program, Run};

use crate::client::{Attempt, CONTENT, Client, Outcome, ProxyProtocol, Scheme, client_tests};

struct Wget;

impl Client for Wget {
    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        let mut program = attempt
            .program("busybox")
            .args(["wget", "-q", "-O", "-"])
            .arg(format!("{}/some/path", attempt.base));
        if let Some(proxy) = &attempt.proxy {
            program = program.env("http_proxy", proxy);
        }
        Outcome::printed(program.run())
    }

    fn refusals(&self, _scheme: Scheme, _through: ProxyProtocol) -> &'static [&'static str] {
        &["403 Forbidden"]
    }
}

client_tests!(Wget; http);

/// `nc -N` closes its sending side after the request.
#[test]
fn h1_netcat_gets_its_answer_after_a_half_close() {
    let origin = Origin::start(|_| Answer::text(CONTENT));
    let daemon = Daemon::start(&Config::example());
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: allowed.test:{}\r\n\r\n",
        origin.url("allowed.test", "/"),
        origin.addr().port()
    );
    netcat(&daemon, &request)
        .succeeded()
        .says("HTTP/1.1 200 OK")
        .says(CONTENT);
}

fn netcat(daemon: &Daemon, request: &str) -> Run {
    let proxy = daemon.http_addr();
    Program::new("nc")
        .arg("-N")
        .args([proxy.ip().to_string(), proxy.port().to_string()])
        .stdin(request.as_bytes())
        .run()
}
