//! The proxy survives a shortage of file descriptors.

use e2e::client::{Connection, Socks5Target};
use e2e::daemon::{Config, Daemon, StartScript};
use e2e::descriptors::Descriptors;
use e2e::origin::{Answer, Origin};

use super::get;

/// A limit of descriptors that suffices for the start and is used up by few connections.
const FEW: u32 = 48;

fn start() -> Daemon {
    let wrapped = StartScript::with_descriptors(FEW);
    Daemon::launch()
        .program(wrapped.path())
        .config(&Config::example())
        .start()
}

/// Opens connections until the listener logs that it cannot accept another one.
fn exhaust(daemon: &Daemon) -> Vec<Connection> {
    let clients = (0..FEW)
        .map(|_| Connection::open(daemon.http_addr()))
        .collect();
    let line = daemon.wait_for_log(|line| line.message_starts_with("cannot accept clients"));
    assert_eq!(line.level(), Some("ERROR"));
    clients
}

fn count(daemon: &Daemon, beginning: &str) -> usize {
    let logs = daemon.logs();
    let begins = |line: &&e2e::daemon::LogLine| line.message_starts_with(beginning);
    logs.iter().filter(begins).count()
}

#[test]
fn c5_a_listener_without_descriptors_logs_it_once_and_recovers() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = start();
    let fillers = exhaust(&daemon);
    let mut waiting = Connection::open(daemon.http_addr());
    waiting.send(get(&origin));
    drop(fillers);
    assert_eq!(waiting.read_final_response().text(), "hello");
    daemon.wait_for_log(|line| line.message() == Some("accepting again"));
    for _ in 0..50 {
        let answer = Connection::open(daemon.http_addr()).exchange(&get(&origin));
        assert_eq!(answer.text(), "hello");
    }
    assert_eq!(
        count(&daemon, "cannot accept clients"),
        count(&daemon, "accepting again"),
        "one line when it begins and one when it is over"
    );
}

#[test]
fn c5_a_dial_without_a_descriptor_is_503_and_the_proxys_fault() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = start();
    let mut early = Connection::open(daemon.http_addr());
    let request = get(&origin).replace("Connection: close\r\n", "");
    let refused = "GET http://blocked.test/ HTTP/1.1\r\nHost: blocked.test\r\n\r\n";
    assert_eq!(early.exchange(refused).status, 403);
    let mut socks5 = Connection::open(daemon.socks_addr());
    assert_eq!(socks5.socks5_greet(&[0]), 0);
    let mut tunnel = Connection::open(daemon.http_addr());
    assert_eq!(tunnel.exchange(refused).status, 403);
    let fillers = exhaust(&daemon);
    let answer = early.exchange(&request);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(
        answer.text().contains("no file descriptors left"),
        "{}",
        answer.text()
    );
    let authority = format!("allowed.test:{}", origin.addr().port());
    assert_eq!(tunnel.connect(&authority).status, 503);
    let target = Socks5Target::name("allowed.test", origin.addr().port());
    assert_eq!(socks5.socks5_request(1, &target).reply, 1);
    assert_eq!(origin.connections(), 0);
    drop(fillers);
    daemon.wait_for_log(|line| line.message() == Some("accepting again"));
    // The same connection that was answered 503 goes on.
    assert_eq!(early.exchange(&request).text(), "hello");
}

#[test]
fn c5_many_clients_and_few_descriptors_all_get_an_answer() {
    let Some(_reserved) = Descriptors::reserve(360) else {
        return;
    };
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = start();
    let clients: Vec<_> = (0..300)
        .map(|_| {
            let mut client = Connection::open(daemon.http_addr());
            client.send(get(&origin));
            client
        })
        .collect();
    let mut served = 0;
    for mut client in clients {
        let answer = client.read_final_response();
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
        served += usize::from(answer.status == 200);
    }
    assert!(served > 0);
    let answer = Connection::open(daemon.http_addr()).exchange(&get(&origin));
    assert_eq!(answer.text(), "hello");
}
