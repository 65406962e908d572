//! Resolve, vet, dial (SPEC P4), with public addresses to which no packet is ever sent: the
//! resolver and the dialler are scripted, and every dial ends at an origin on loopback.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use codex_network_engine::{Dial, EngineParts, Resolve};
use codex_network_policy::LocalAddresses;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::kit::doors::{Doors, status};
use crate::kit::network::{Names, Redirect};
use crate::kit::records::Records;
use crate::kit::server::{answer, serve};
use crate::kit::settings;
use crate::kit::stream::{in_time, next_head};

/// A machine with these addresses.
#[derive(Debug, Default)]
struct Machine(Mutex<Vec<IpAddr>>);

impl LocalAddresses for Machine {
    fn contains(&self, address: IpAddr) -> bool {
        self.0.lock().expect("not poisoned").contains(&address)
    }
}

struct Scene {
    doors: Doors,
    names: Arc<Names>,
    dialler: Arc<Redirect>,
    machine: Arc<Machine>,
    records: Arc<Records>,
}

impl Scene {
    /// Each lookup gets the next row of `answers`; the last row repeats. Connections to
    /// the addresses in `refuses` fail.
    async fn new(policy: &str, answers: &[&[&str]], refuses: &[&str]) -> Self {
        let address = |text: &&str| text.parse::<IpAddr>().expect("an address");
        let answers = answers
            .iter()
            .map(|row| row.iter().map(address).collect::<Vec<_>>());
        let answers = Mutex::new(answers.collect::<VecDeque<_>>());
        let names = Names::new(move |_| {
            let mut answers = answers.lock().expect("not poisoned");
            let answer = if answers.len() > 1 {
                answers.pop_front()
            } else {
                answers.front().cloned()
            };
            answer.unwrap_or_default()
        });
        let refuses: Vec<_> = refuses.iter().map(address).collect();
        let origin = origin().await;
        let dialler =
            Redirect::new(move |address| (!refuses.contains(&address.ip())).then_some(origin));
        let machine = Arc::new(Machine::default());
        // `verdict reason address:port`
        let records = Records::new(|event| {
            format!(
                "{} {} {}:{}",
                event.decision.verdict(),
                event.decision.reason(),
                event.server_address,
                event.server_port
            )
        });
        let parts = EngineParts {
            resolver: Some(Arc::clone(&names) as Arc<dyn Resolve>),
            dialler: Arc::clone(&dialler) as Arc<dyn Dial>,
            machine: Arc::clone(&machine) as Arc<dyn LocalAddresses>,
            audit: Arc::clone(&records) as _,
            ..EngineParts::default()
        };
        Self {
            doors: Doors::open(settings(policy), parts),
            names,
            dialler,
            machine,
            records,
        }
    }

    /// The status of one request over a connection of its own.
    async fn get(&self, target: &str) -> u16 {
        self.status_of(&format!(
            "GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n"
        ))
        .await
    }

    async fn connect(&self, authority: &str) -> u16 {
        self.status_of(&format!("CONNECT {authority} HTTP/1.1\r\n\r\n"))
            .await
    }

    async fn status_of(&self, request: &str) -> u16 {
        let mut client = self.doors.client().await;
        let sent = client.write_all(request.as_bytes()).await;
        sent.expect("an open connection");
        let mut start = [0; 12];
        let read = in_time(client.read_exact(&mut start)).await;
        read.expect("an answer");
        status(std::str::from_utf8(&start).expect("ASCII"))
    }

    /// The SOCKS5 reply for a domain name.
    async fn socks5(&self, name: &str, port: u16) -> u8 {
        self.doors.socks5_tunnel(name, port).await.1
    }

    /// Makes an address one of this machine's.
    fn add_own(&self, address: &str) {
        let address = address.parse().expect("an address");
        self.machine.0.lock().expect("not poisoned").push(address);
    }
}

/// Answers every request with 200 and keeps the connection.
async fn origin() -> std::net::SocketAddr {
    serve(|mut stream| async move {
        while next_head(&mut stream).await.is_some() {
            let _ = stream.write_all(&answer(b"")).await;
        }
    })
    .await
}

const ALLOW: &str = "[network]\nallowed_domains = [\"site.test\"]\n";

#[tokio::test]
async fn p4_exactly_the_vetted_addresses_are_dialled() {
    let scene = Scene::new(ALLOW, &[&["93.184.216.34"]], &[]).await;
    assert_eq!(scene.get("http://site.test:8000/").await, 200);
    assert_eq!(scene.connect("site.test:443").await, 200);
    assert_eq!(scene.socks5("site.test", 22).await, 0);
    assert_eq!(
        scene.dialler.dialled(),
        [
            "93.184.216.34:8000",
            "93.184.216.34:443",
            "93.184.216.34:22"
        ]
    );
    assert_eq!(scene.names.lookups(), 3, "one lookup per connection");
}

#[tokio::test]
async fn p4_one_non_public_address_refuses_all_of_them() {
    for bad in [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "::1",
        "fd00::1",
        "64:ff9b::7f00:1",
        "2002:a00:1::",
        "0.0.0.0",
    ] {
        let scene = Scene::new(ALLOW, &[&["93.184.216.34", bad]], &[]).await;
        assert_eq!(scene.get("http://site.test/").await, 403, "{bad}");
        assert_eq!(scene.connect("site.test:443").await, 403, "{bad}");
        assert_eq!(scene.socks5("site.test", 443).await, 2, "{bad}");
        assert_eq!(scene.dialler.dialled(), [""; 0], "{bad}");
        let reasons: Vec<_> = scene
            .doors
            .engine
            .blocked()
            .entries(0)
            .iter()
            .map(|entry| entry.reason.clone())
            .collect();
        assert_eq!(reasons, ["not_allowed_local"; 3], "{bad}");
    }
}

#[tokio::test]
async fn p4_a_name_that_is_rebound_is_refused_at_its_next_lookup() {
    let scene = Scene::new(ALLOW, &[&["93.184.216.34"], &["127.0.0.1"]], &[]).await;
    assert_eq!(scene.connect("site.test:443").await, 200);
    assert_eq!(scene.connect("site.test:443").await, 403);
    assert_eq!(scene.dialler.dialled(), ["93.184.216.34:443"]);
}

#[tokio::test]
async fn p4_a_refused_name_causes_no_lookup() {
    let scene = Scene::new(ALLOW, &[&["93.184.216.34"]], &[]).await;
    assert_eq!(scene.get("http://other.test/").await, 403);
    assert_eq!(scene.connect("other.test:443").await, 403);
    assert_eq!(scene.socks5("other.test", 443).await, 2);
    assert_eq!(scene.names.lookups(), 0);
}

#[tokio::test]
async fn p4_a_kept_connection_needs_no_second_lookup_and_does_not_outlive_its_settings() {
    let scene = Scene::new(ALLOW, &[&["93.184.216.34"]], &[]).await;
    for _ in 0..3 {
        assert_eq!(scene.get("http://site.test/").await, 200);
    }
    assert_eq!(
        (scene.names.lookups(), scene.dialler.dialled().len()),
        (1, 1)
    );
    let settings = Arc::clone(scene.doors.engine.current().settings());
    scene
        .doors
        .engine
        .replace(&settings)
        .expect("the same settings");
    assert_eq!(scene.get("http://site.test/").await, 200);
    assert_eq!(
        (scene.names.lookups(), scene.dialler.dialled().len()),
        (2, 1)
    );
}

#[tokio::test]
async fn p4_another_vetted_address_is_tried_when_one_refuses() {
    let scene = Scene::new(
        ALLOW,
        &[&["2606:2800::1", "93.184.216.34"]],
        &["2606:2800::1"],
    )
    .await;
    assert_eq!(scene.get("http://site.test/").await, 200);
    assert_eq!(
        scene.dialler.dialled(),
        ["[2606:2800::1]:80", "93.184.216.34:80"]
    );
}

/// A past bug: a wildcard name that leads to the machine's own global address reached services that
/// listen on every address.
#[tokio::test]
async fn p4_an_address_of_this_machine_is_local_from_the_moment_it_has_it() {
    let scene = Scene::new(
        "[network]\nallowed_domains = [\"*\"]\n",
        &[&["93.184.216.34"]],
        &[],
    )
    .await;
    assert_eq!(scene.connect("wild.test:443").await, 200);
    scene.add_own("93.184.216.34");
    for host in [
        "wild.test",
        "93.184.216.34",
        "[::ffff:93.184.216.34]",
        "0x5db8d822",
    ] {
        assert_eq!(
            scene.get(&format!("http://{host}:81/")).await,
            403,
            "{host}"
        );
        assert_eq!(scene.connect(&format!("{host}:81")).await, 403, "{host}");
        let name = host.trim_matches(['[', ']']);
        assert_eq!(scene.socks5(name, 81).await, 2, "{host}");
    }
    let entries = scene.doors.engine.blocked().entries(0);
    assert_eq!(entries.len(), 12);
    assert!(
        entries
            .iter()
            .all(|entry| entry.reason == "not_allowed_local")
    );
    assert_eq!(scene.dialler.dialled(), ["93.184.216.34:443"]);
}

#[tokio::test]
async fn p3_an_address_of_this_machine_that_is_spelled_out_is_reached() {
    let policy = "[network]\nallowed_domains = [\"93.184.216.34\"]\n";
    let scene = Scene::new(policy, &[], &[]).await;
    scene.add_own("93.184.216.34");
    assert_eq!(scene.connect("93.184.216.34:443").await, 200);
}

#[tokio::test]
async fn p3_a_denied_address_is_denied_under_any_name() {
    let policy = "[network]\nallowed_domains = [\"*\"]\ndenied_domains = [\"93.184.216.34\"]\n";
    for answer in [
        "93.184.216.34",
        "::ffff:93.184.216.34",
        "64:ff9b::5db8:d822",
    ] {
        let scene = Scene::new(policy, &[&[answer]], &[]).await;
        assert_eq!(scene.get("http://site.test/").await, 403, "{answer}");
        assert_eq!(
            scene.doors.engine.blocked().entries(0)[0].reason,
            "denied",
            "{answer}"
        );
    }
}

#[tokio::test]
async fn r3_every_decision_is_recorded_once() {
    let scene = Scene::new(ALLOW, &[&["93.184.216.34"], &[], &["127.0.0.1"]], &[]).await;
    assert_eq!(scene.connect("site.test:1").await, 200);
    assert_eq!(scene.connect("site.test:2").await, 502);
    assert_eq!(scene.connect("site.test:3").await, 403);
    assert_eq!(scene.connect("other.test:4").await, 403);
    assert_eq!(scene.get("http://a..b/").await, 403);
    assert_eq!(
        scene.records.take(),
        [
            "allow allow site.test:1",
            "allow allow site.test:2",
            "deny not_allowed_local site.test:3",
            "deny not_allowed other.test:4",
            "deny invalid_host a..b:80",
        ]
    );
}
