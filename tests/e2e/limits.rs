//! Behaviour at limits: connections, and descriptors (SPEC C5).

mod descriptors;
mod users;

use std::thread;

use e2e::client::{Connection, Socks5Target};
use e2e::daemon::{Config, Daemon};
use e2e::descriptors::Descriptors;
use e2e::origin::{Answer, Origin};
use e2e::wait::{TIMEOUT, poll};

const AT_THE_LIMIT: &str = "at the limit of connections: further clients wait";

fn limited(most: usize) -> Config {
    Config::example().set("daemon.limits", "max_connections", &most.to_string())
}

fn is_full(daemon: &Daemon) {
    daemon.wait_for_log(|line| line.message() == Some(AT_THE_LIMIT));
}

fn get(origin: &Origin) -> String {
    let authority = format!("allowed.test:{}", origin.addr().port());
    format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")
}

/// Connections that were answered, and so were admitted.
fn hold(daemon: &Daemon, count: usize) -> Vec<Connection> {
    let greeted = |_| {
        let mut client = Connection::open(daemon.socks_addr());
        assert_eq!(client.socks5_greet(&[0]), 0);
        client
    };
    (0..count).map(greeted).collect()
}

#[test]
fn c5_clients_beyond_max_connections_wait_until_one_ends() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&limited(2));
    let mut held = hold(&daemon, 2);
    is_full(&daemon);
    let target = Socks5Target::name("allowed.test", origin.addr().port());
    let mut waiting: Vec<_> = (0..3)
        .map(|_| Connection::open(daemon.socks_addr()))
        .collect();
    for client in &mut waiting {
        client.send([&[5, 1, 0][..], &target.request(1), b"hello"].concat());
    }
    // The admitted clients are served meanwhile, and no other client is admitted.
    for client in &mut held {
        assert_eq!(client.socks5_request(1, &target).reply, 0);
    }
    assert_eq!(origin.connections(), 2);
    drop(held);
    for mut client in waiting {
        assert_eq!(client.read_exact(2), [5, 0]);
        assert_eq!(client.socks5_reply().reply, 0);
        assert_eq!(client.read_exact(5), b"hello");
    }
}

#[test]
fn c5_every_end_of_a_connection_admits_a_waiting_client() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&limited(1));
    for number in 0..30 {
        let mut client = Connection::open(daemon.http_addr());
        match number % 5 {
            0 => drop(client),
            1 => client.reset(),
            2 => {
                client.send("nonsense\r\n\r\n");
                client.read_to_end();
            }
            3 => {
                let authority = format!("allowed.test:{}", origin.addr().port());
                assert_eq!(client.connect(&authority).status, 200);
            }
            _ => assert_eq!(client.exchange(&get(&origin)).text(), "hello"),
        }
    }
}

fn impatient(most: usize) -> Config {
    limited(most).set("daemon.limits", "header_timeout", r#""300ms""#)
}

/// A client with an idle connection does not block others.
#[test]
fn c5_at_the_limit_idle_connections_end_for_waiting_clients() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let authority = format!("allowed.test:{}", origin.addr().port());
    let kept = format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    let daemon = Daemon::start(&impatient(2));
    let mut idle: Vec<_> = (0..2)
        .map(|_| Connection::open(daemon.http_addr()))
        .collect();
    for client in &mut idle {
        assert_eq!(client.exchange(&kept).text(), "hello");
    }
    // More clients than the limit: each waits until another connection ends.
    for _ in 0..4 {
        let mut client = Connection::open(daemon.http_addr());
        assert_eq!(client.exchange(&kept).text(), "hello");
        idle.push(client);
    }
}

#[test]
fn c5_at_the_limit_tunnels_and_running_answers_are_kept() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let slow = Origin::start(move |_| {
        let _ = wait.lock().expect("the lock").recv_timeout(TIMEOUT);
        Answer::text("late")
    });
    let echo = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&impatient(2));
    let mut tunnel = Connection::open(daemon.http_addr());
    let authority = format!("allowed.test:{}", echo.addr().port());
    assert_eq!(tunnel.connect(&authority).status, 200);
    let mut asking = Connection::open(daemon.http_addr());
    asking.send(get(&slow));
    is_full(&daemon);
    slow.wait_for("the request", |seen| (!seen.is_empty()).then_some(()));
    // The test is about time: longer than an idle connection is kept.
    thread::sleep(std::time::Duration::from_millis(800));
    tunnel.send("still");
    assert_eq!(tunnel.read_exact(5), b"still");
    drop(go);
    assert_eq!(asking.read_final_response().text(), "late");
}

#[test]
fn c5_below_the_limit_idle_connections_are_kept() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let authority = format!("allowed.test:{}", origin.addr().port());
    let kept = format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    let daemon = Daemon::start(&impatient(2));
    let mut client = Connection::open(daemon.http_addr());
    for _ in 0..2 {
        assert_eq!(client.exchange(&kept).text(), "hello");
        // The test is about time: longer than an idle connection is kept at the limit.
        thread::sleep(std::time::Duration::from_millis(800));
    }
}

#[test]
fn c5_a_reload_with_a_higher_limit_admits_waiting_clients() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&limited(1));
    // Open a tunnel, since an unfinished handshake would time out.
    let mut held = hold(&daemon, 1).remove(0);
    let target = Socks5Target::name("allowed.test", origin.addr().port());
    assert_eq!(held.socks5_request(1, &target).reply, 0);
    is_full(&daemon);
    let mut waiting = Connection::open(daemon.socks_addr());
    waiting.send([5, 1, 0]);
    daemon.reload_with(&limited(2));
    assert_eq!(waiting.read_exact(2), [5, 0]);
    held.send("still");
    assert_eq!(held.read_exact(5), b"still");
}

#[test]
fn c5_the_reached_limit_is_logged_once_and_not_for_every_client() {
    const CLIENTS: usize = 20;
    let daemon = Daemon::start(&limited(1));
    let held = hold(&daemon, 1);
    is_full(&daemon);
    let waiting: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = Connection::open(daemon.socks_addr());
            client.send([5, 1, 0]);
            client
        })
        .collect();
    drop(held);
    for mut client in waiting {
        assert_eq!(client.read_exact(2), [5, 0]);
    }
    let logs = daemon.logs();
    let reported = logs
        .iter()
        .filter(|line| line.message() == Some(AT_THE_LIMIT))
        .count();
    assert!(
        reported < CLIENTS / 2,
        "{reported} lines about one and the same thing"
    );
}

#[test]
fn c5_slow_clients_do_not_delay_other_clients() {
    let Some(_reserved) = Descriptors::reserve(230) else {
        return;
    };
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let mut slow: Vec<_> = (0..200)
        .map(|_| Connection::open(daemon.http_addr()))
        .collect();
    for client in &mut slow {
        client.send("GET http://allowed.test/ HT");
    }
    for _ in 0..10 {
        let answer = Connection::open(daemon.http_addr()).exchange(&get(&origin));
        assert_eq!(answer.text(), "hello");
    }
}

#[test]
fn c5_five_hundred_clients_at_once_are_all_answered() {
    let Some(_reserved) = Descriptors::reserve(650) else {
        return;
    };
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&limited(100));
    // All of them are connected before the first is read from.
    let clients: Vec<_> = (0..500)
        .map(|_| {
            let mut client = Connection::open(daemon.http_addr());
            client.send(get(&origin));
            client
        })
        .collect();
    thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || assert_eq!(client.read_final_response().text(), "hello"));
        }
    });
    poll(TIMEOUT, || {
        let reported = daemon.admin("GET", "/health", None);
        (reported.text() == "ok").then_some(())
    });
}
