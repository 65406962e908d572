//! Clients while the engine drains (SPEC C5).

use codex_network_engine::EngineParts;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::kit::doors::{Doors, connect};
use crate::kit::settings;
use crate::kit::stream::{in_time, read_to_end};

/// Without a drain, the client may be silent for an hour.
#[tokio::test]
async fn c5_a_client_that_has_sent_nothing_does_not_hold_a_drain_up() {
    let policy = "[network]\n[daemon.limits]\nheader_timeout = \"1h\"\n";
    let doors = Doors::open(settings(policy), EngineParts::default());
    let mut silent = [connect(doors.http()).await, connect(doors.socks5()).await];
    // Clients are accepted in order: when a later one is answered, the silent one is served.
    for door in [doors.http(), doors.socks5()] {
        let mut later = connect(door).await;
        let greeting = later.write_all(&[5, 0]).await;
        greeting.expect("an open connection");
        let _ended = in_time(later.read(&mut [0; 64])).await;
    }
    doors.engine.drain().begin();
    for client in &mut silent {
        assert_eq!(read_to_end(client).await, "");
    }
    in_time(doors.engine.drain().ended()).await;
}

/// Its greeting may have been on the way when the drain began.
#[tokio::test]
async fn c5_a_socks5_client_whose_greeting_comes_as_a_drain_begins_is_answered() {
    let doors = Doors::open(settings("[network]\n"), EngineParts::default());
    let mut client = connect(doors.socks5()).await;
    let mut later = connect(doors.socks5()).await;
    later.write_all(&[5, 1, 0]).await.expect("a greeting");
    let mut method = [0; 2];
    in_time(later.read_exact(&mut method))
        .await
        .expect("a method");
    doors.engine.drain().begin();
    client.write_all(&[5, 1, 0]).await.expect("a greeting");
    in_time(client.read_exact(&mut method))
        .await
        .expect("a method");
    assert_eq!(method, [5, 0]);
}
