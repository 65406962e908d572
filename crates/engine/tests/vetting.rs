//! Resolve, vet, dial (SPEC P4), with public addresses to which no packet is ever sent: the
//! resolver and the dialler are scripted, and every dial ends at an origin on loopback.

#![expect(
    clippy::unwrap_used,
    reason = "a poisoned lock is a test that has failed already"
)]

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use codex_network_config::{Sources, load};
use codex_network_engine::{
    AuditEvent, AuditSink, Dial, Door, Engine, EngineParts, Listening, Resolve, ResolveError,
};
use codex_network_policy::LocalAddresses;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Answers each lookup with the next row of its script; the last row repeats.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: Mutex<Vec<String>>,
}

impl Resolve for Script {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 {
            answers.pop_front()
        } else {
            answers.front().cloned()
        };
        Box::pin(async move { answer.ok_or(ResolveError::NotFound) })
    }
}

/// Leads every dial to one address, except for those that refuse, and remembers them all.
struct Redirect {
    to: SocketAddr,
    refuses: Vec<IpAddr>,
    dialled: Mutex<Vec<SocketAddr>>,
}

impl Dial for Redirect {
    #[expect(
        clippy::disallowed_methods,
        reason = "the scripted dialler ends at the test's origin"
    )]
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        self.dialled.lock().unwrap().push(address);
        let refused = self.refuses.contains(&address.ip());
        Box::pin(async move {
            if refused {
                Err(io::ErrorKind::ConnectionRefused.into())
            } else {
                TcpStream::connect(self.to).await
            }
        })
    }
}

/// A machine with these addresses.
#[derive(Debug, Default)]
struct Machine(Mutex<Vec<IpAddr>>);

impl LocalAddresses for Machine {
    fn contains(&self, address: IpAddr) -> bool {
        self.0.lock().unwrap().contains(&address)
    }
}

/// Keeps the records, as `verdict reason address:port`.
#[derive(Default)]
struct Audit(Mutex<Vec<String>>);

impl AuditSink for Audit {
    fn record(&self, event: &AuditEvent<'_>) {
        let decision = event.decision;
        let line = format!(
            "{} {} {}:{}",
            decision.verdict(),
            decision.reason(),
            event.server_address,
            event.server_port
        );
        self.0.lock().unwrap().push(line);
    }
}

struct Scene {
    engine: Engine,
    http: Listening,
    socks5: Listening,
    script: Arc<Script>,
    dialler: Arc<Redirect>,
    machine: Arc<Machine>,
    audit: Arc<Audit>,
}

impl Scene {
    async fn new(policy: &str, answers: &[&[&str]], refuses: &[&str]) -> Self {
        let address = |text: &&str| text.parse::<IpAddr>().expect("an address");
        let answers = answers
            .iter()
            .map(|row| row.iter().map(address).collect())
            .collect();
        let script = Arc::new(Script {
            answers: Mutex::new(answers),
            asked: Mutex::default(),
        });
        let dialler = Arc::new(Redirect {
            to: origin().await,
            refuses: refuses.iter().map(address).collect(),
            dialled: Mutex::default(),
        });
        let machine = Arc::new(Machine::default());
        let audit = Arc::new(Audit::default());
        let settings = load(&Sources::none().with_text("test", policy))
            .expect("a policy")
            .settings;
        let parts = EngineParts {
            resolver: Some(Arc::clone(&script) as Arc<dyn Resolve>),
            dialler: Arc::clone(&dialler) as Arc<dyn Dial>,
            machine: Arc::clone(&machine) as Arc<dyn LocalAddresses>,
            audit: Arc::clone(&audit) as Arc<dyn AuditSink>,
            ..EngineParts::default()
        };
        let engine = Engine::new(Arc::new(settings), parts).expect("an engine");
        let open = |door| {
            let listener =
                std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
            engine.open(door, listener).expect("a door")
        };
        let (http, socks5) = (open(Door::Http), open(Door::Socks5));
        Self {
            engine,
            http,
            socks5,
            script,
            dialler,
            machine,
            audit,
        }
    }

    /// The status of one request over a connection of its own.
    async fn get(&self, target: &str) -> u16 {
        let head = format!("GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n");
        self.ask(self.http.address(), head.as_bytes()).await
    }

    async fn connect(&self, authority: &str) -> u16 {
        let head = format!("CONNECT {authority} HTTP/1.1\r\n\r\n");
        self.ask(self.http.address(), head.as_bytes()).await
    }

    #[expect(clippy::disallowed_methods, reason = "the test's own client")]
    async fn ask(&self, door: SocketAddr, message: &[u8]) -> u16 {
        let mut stream = TcpStream::connect(door).await.expect("an open door");
        stream.write_all(message).await.expect("an open connection");
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.expect("an answer");
        std::str::from_utf8(&head[9..])
            .expect("ASCII")
            .parse()
            .expect("a status")
    }

    /// The SOCKS5 reply for a domain name.
    #[expect(clippy::disallowed_methods, reason = "the test's own client")]
    async fn socks5(&self, name: &str, port: u16) -> u8 {
        let mut stream = TcpStream::connect(self.socks5.address())
            .await
            .expect("an open door");
        let mut message = vec![
            5,
            1,
            0,
            5,
            1,
            0,
            3,
            u8::try_from(name.len()).expect("a short name"),
        ];
        message.extend_from_slice(name.as_bytes());
        message.extend_from_slice(&port.to_be_bytes());
        stream
            .write_all(&message)
            .await
            .expect("an open connection");
        let mut reply = [0; 12];
        stream.read_exact(&mut reply).await.expect("a reply");
        reply[3]
    }

    fn asked(&self) -> usize {
        self.script.asked.lock().unwrap().len()
    }

    fn dialled(&self) -> Vec<String> {
        self.dialler
            .dialled
            .lock()
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn recorded(&self) -> Vec<String> {
        self.audit.0.lock().unwrap().clone()
    }
}

/// Answers every request with 200 and keeps the connection.
async fn origin() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while let Ok(1..) = stream.read_buf(&mut seen).await {
                    if seen.ends_with(b"\r\n\r\n") {
                        seen.clear();
                        let _ = stream
                            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                            .await;
                    }
                }
            });
        }
    });
    address
}

const ALLOW: &str = "[network]\nallowed_domains = [\"site.test\"]\n";

#[tokio::test]
async fn p4_exactly_the_vetted_addresses_are_dialled() {
    let scene = Scene::new(ALLOW, &[&["93.184.216.34"]], &[]).await;
    assert_eq!(scene.get("http://site.test:8000/").await, 200);
    assert_eq!(scene.connect("site.test:443").await, 200);
    assert_eq!(scene.socks5("site.test", 22).await, 0);
    assert_eq!(
        scene.dialled(),
        [
            "93.184.216.34:8000",
            "93.184.216.34:443",
            "93.184.216.34:22"
        ]
    );
    assert_eq!(scene.asked(), 3, "one lookup per connection");
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
        assert_eq!(scene.dialled(), [""; 0], "{bad}");
        let reasons: Vec<_> = scene
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
    assert_eq!(scene.dialled(), ["93.184.216.34:443"]);
}

#[tokio::test]
async fn p4_a_refused_name_causes_no_lookup() {
    let scene = Scene::new(ALLOW, &[&["93.184.216.34"]], &[]).await;
    assert_eq!(scene.get("http://other.test/").await, 403);
    assert_eq!(scene.connect("other.test:443").await, 403);
    assert_eq!(scene.socks5("other.test", 443).await, 2);
    assert_eq!(scene.asked(), 0);
}

#[tokio::test]
async fn p4_a_kept_connection_needs_no_second_lookup_and_does_not_outlive_its_settings() {
    let scene = Scene::new(ALLOW, &[&["93.184.216.34"]], &[]).await;
    for _ in 0..3 {
        assert_eq!(scene.get("http://site.test/").await, 200);
    }
    assert_eq!((scene.asked(), scene.dialled().len()), (1, 1));
    let settings = Arc::clone(scene.engine.current().settings());
    scene.engine.replace(&settings).expect("the same settings");
    assert_eq!(scene.get("http://site.test/").await, 200);
    assert_eq!((scene.asked(), scene.dialled().len()), (2, 2));
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
    assert_eq!(scene.dialled(), ["[2606:2800::1]:80", "93.184.216.34:80"]);
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
    let own: IpAddr = "93.184.216.34".parse().expect("an address");
    scene.machine.0.lock().unwrap().push(own);
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
    let entries = scene.engine.blocked().entries(0);
    assert_eq!(entries.len(), 12);
    assert!(
        entries
            .iter()
            .all(|entry| entry.reason == "not_allowed_local")
    );
    assert_eq!(scene.dialled(), ["93.184.216.34:443"]);
}

#[tokio::test]
async fn p3_an_address_of_this_machine_that_is_spelled_out_is_reached() {
    let policy = "[network]\nallowed_domains = [\"93.184.216.34\"]\n";
    let scene = Scene::new(policy, &[], &[]).await;
    let own: IpAddr = "93.184.216.34".parse().expect("an address");
    scene.machine.0.lock().unwrap().push(own);
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
            scene.engine.blocked().entries(0)[0].reason,
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
        scene.recorded(),
        [
            "allow allow site.test:1",
            "allow allow site.test:2",
            "deny not_allowed_local site.test:3",
            "deny not_allowed other.test:4",
            "deny invalid_host a..b:80",
        ]
    );
}
