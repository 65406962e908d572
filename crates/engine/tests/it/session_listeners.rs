//! Listeners of a session, of which its opener keeps copies (SPEC J13, P6).

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use codex_network_engine::{
    EngineParts, LauncherCredentials, OpenSession, SessionDoor, SessionParts,
};
use codex_network_policy::Narrowing;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::kit::doors::{Doors, connect, listener};
use crate::kit::settings;
use crate::kit::stream::in_time;

fn open(doors: &Doors, listeners: [OwnedFd; 2]) -> OpenSession {
    let session = doors.engine.open_session(SessionParts {
        uid: 1,
        user: None,
        command: "curl".to_owned(),
        pid: 1,
        isolation: "jail",
        profile: None,
        narrowing: Narrowing::default(),
        credentials: LauncherCredentials::default(),
        doors: vec![SessionDoor::Http, SessionDoor::Http],
        sockets: listeners.into(),
    });
    session.expect("a session")
}

/// Binds a listener to another address through a copy of its descriptor.
fn move_elsewhere(copy: TcpListener) -> SocketAddr {
    let before = copy.local_addr().expect("bound");
    let socket = socket2::Socket::from(copy);
    socket.shutdown(Shutdown::Both).expect("it listens");
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], 0));
    socket.bind(&elsewhere.into()).expect("a free port");
    socket.listen(16).expect("bound");
    let after = socket.local_addr().expect("bound").as_socket();
    let after = after.expect("an internet address");
    assert_ne!(before, after);
    after
}

/// A request to a door, and the first line of the answer.
async fn ask(door: SocketAddr) -> io::Result<String> {
    let mut client = connect(door).await;
    client
        .write_all(b"GET http://refused.test/ HTTP/1.1\r\nHost: refused.test\r\n\r\n")
        .await?;
    let mut first = [0; 12];
    in_time(client.read_exact(&mut first)).await?;
    Ok(String::from_utf8_lossy(&first).into_owned())
}

#[tokio::test]
async fn p6_a_listener_that_its_opener_binds_anew_resets_each_connection() {
    let doors = Doors::open(settings("[network]\n"), EngineParts::default());
    let [moved, kept] = [listener(), listener()];
    let copy = moved.try_clone().expect("a copy");
    let kept_address = kept.local_addr().expect("bound");
    let _session = open(&doors, [moved.into(), kept.into()]);
    let refusal = "HTTP/1.1 403";
    let before = copy.local_addr().expect("bound");
    assert_eq!(ask(before).await.expect("an answer"), refusal);
    let after = move_elsewhere(copy);
    let reset = ask(after).await.expect_err("a reset");
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(ask(kept_address).await.expect("an answer"), refusal);
}
