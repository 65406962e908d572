//! Equal shares of the connection slots (SPEC C5), over real sockets. A scripted kernel knows the user of
//! a connection by the client's port.

#![expect(
    clippy::unwrap_used,
    reason = "a poisoned lock is a test that has failed already"
)]

mod scene;

use std::time::Duration;

use self::scene::Scene;
use crate::kit::TIMEOUT;

/// An idle time that no test reaches.
const NEVER: &str = "1h";
/// A short idle time.
const SOON: &str = "200ms";

#[tokio::test]
async fn c5_a_user_with_every_slot_does_not_keep_another_user_out() {
    let scene = Scene::new(4, NEVER).await;
    let mut tunnels = Vec::new();
    for _ in 0..4 {
        tunnels.push(scene.tunnel(1).await);
    }
    // The first two are busier than the others, though none has been idle for long.
    for tunnel in &mut tunnels[..2] {
        tunnel.echo().await;
    }
    let mut others = Vec::new();
    for _ in 0..2 {
        others.push(scene.tunnel(2).await);
    }
    for idle in &mut tunnels[2..] {
        assert!(idle.was_reset().await, "the idlest ones end with a reset");
    }
    for tunnel in tunnels[..2].iter_mut().chain(&mut others) {
        tunnel.echo().await;
    }
    assert_eq!(scene.doors.engine.counters().ended_for_others, 2);
    // Both have their share now.
    let mut more = scene.open(2).await;
    more.send(scene.connect_request()).await;
    assert!(!more.answers_within(Duration::from_millis(500)).await);
    drop(others.pop());
    assert_eq!(more.status().await, 200);
}

#[tokio::test]
async fn c5_while_slots_are_free_no_user_is_looked_up_and_no_connection_ends() {
    let scene = Scene::new(4, SOON).await;
    let mut tunnels = Vec::new();
    for _ in 0..4 {
        tunnels.push(scene.tunnel(1).await);
    }
    // The test is about time: longer than an idle connection is kept in a shortage.
    tokio::time::sleep(Duration::from_millis(600)).await;
    for tunnel in &mut tunnels {
        tunnel.echo().await;
    }
    assert_eq!(scene.lookups(), 0);
    assert_eq!(scene.doors.engine.counters().ended_for_others, 0);
    let _other = scene.tunnel(2).await;
    assert!(scene.lookups() > 0);
}

#[tokio::test]
async fn c5_idle_tunnels_give_way_and_busy_ones_and_answers_under_way_do_not() {
    let scene = Scene::new(4, SOON).await;
    let mut idle = [scene.tunnel(1).await, scene.tunnel(1).await];
    let mut busy = scene.tunnel(1).await;
    let mut asking = scene.open(1).await;
    asking.send(scene.get_request("/slow")).await;
    scene.slow_request_has_come().await;
    let newcomers = async {
        let first = scene.tunnel(1).await;
        (first, scene.tunnel(1).await)
    };
    tokio::pin!(newcomers);
    let (mut first, mut second) = loop {
        tokio::select! {
            both = &mut newcomers => break both,
            () = busy.echo() => {}
        }
    };
    for tunnel in &mut idle {
        assert!(tunnel.was_reset().await);
    }
    for tunnel in [&mut busy, &mut first, &mut second] {
        tunnel.echo().await;
    }
    scene.answer_slow_request();
    assert_eq!(asking.status().await, 200);
}

#[tokio::test]
async fn c5_a_kept_connection_that_waits_for_its_next_request_gives_way_with_an_orderly_close() {
    let scene = Scene::new(1, SOON).await;
    let mut kept = scene.open(1).await;
    kept.send(scene.get_request("/")).await;
    assert_eq!(kept.status().await, 200);
    let mut newcomer = scene.open(1).await;
    newcomer.send(scene.get_request("/")).await;
    assert_eq!(newcomer.status().await, 200);
    assert!(!kept.was_reset().await);
}

#[tokio::test]
async fn c5_an_upgraded_connection_gives_way_with_a_reset() {
    let scene = Scene::new(1, SOON).await;
    let mut upgraded = scene.open(1).await;
    upgraded.send(scene.upgrade_request()).await;
    assert_eq!(upgraded.status().await, 101);
    let mut newcomer = scene.tunnel(1).await;
    assert!(upgraded.was_reset().await);
    newcomer.echo().await;
}

#[tokio::test]
async fn c5_an_answer_under_way_that_gives_way_does_not_look_complete() {
    let scene = Scene::new(2, NEVER).await;
    let mut asking = Vec::new();
    for _ in 0..2 {
        let mut client = scene.open(1).await;
        client.send(scene.get_request("/slow")).await;
        scene.slow_request_has_come().await;
        asking.push(client);
    }
    let _other = scene.tunnel(2).await;
    // The newest of two that are equally busy.
    assert!(asking[1].was_reset().await);
    scene.answer_slow_request();
    assert_eq!(asking[0].status().await, 200);
}

#[tokio::test]
async fn c5_udp_associations_give_way_like_any_connection() {
    let scene = Scene::new(2, NEVER).await;
    let mut associations = [scene.associate(1).await, scene.associate(1).await];
    let _other = scene.tunnel(2).await;
    assert_eq!(scene.doors.engine.counters().udp_associations, 1);
    assert!(associations[0].has_ended().await);
}

#[tokio::test]
async fn c5_a_flood_of_waiting_clients_is_turned_away_where_it_keeps_another_user_out() {
    let scene = Scene::new(4, NEVER).await;
    let mut tunnels = Vec::new();
    for _ in 0..4 {
        tunnels.push(scene.tunnel(1).await);
    }
    // More than may wait: the rest is in the kernel's queue, in front of the other user.
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(scene.open(1).await);
    }
    let mut other = scene.tunnel(2).await;
    other.echo().await;
    assert!(scene.doors.engine.counters().turned_away > 0);
    // No waiting client has taken a slot from the first user's share.
    let mut alive = 0;
    for tunnel in &mut tunnels {
        alive += usize::from(tunnel.try_echo().await);
    }
    assert_eq!(alive, 3);
}

/// A user may take any loopback address, so another address is not another client.
#[tokio::test]
async fn c5_without_a_source_of_users_all_of_loopback_is_one_client() {
    let scene = Scene::by_address(2, NEVER).await;
    let mut tunnels = [
        scene.tunnel_from("127.0.0.1").await,
        scene.tunnel_from("127.0.0.1").await,
    ];
    // Not every system has more than one loopback address.
    if let Ok(mut other) = scene.open_from("127.0.0.2").await {
        other.send(scene.connect_request()).await;
        assert!(!other.answers_within(Duration::from_millis(500)).await);
    }
    for tunnel in &mut tunnels {
        tunnel.echo().await;
    }
}

/// A connection whose client has closed its socket has no user, and keeps its slot while a request
/// is in hand. One user can leave many such connections, each from another loopback address.
#[tokio::test]
async fn c5_connections_without_a_user_do_not_keep_a_user_out() {
    let scene = Scene::new(4, NEVER).await;
    let mut tunnels = Vec::new();
    for last in 2..6 {
        // Not every system has more than one loopback address.
        let address = format!("127.0.0.{last}");
        match scene.try_tunnel_from(&address).await {
            Some(tunnel) => tunnels.push(tunnel),
            None => tunnels.push(scene.tunnel_from("127.0.0.1").await),
        }
    }
    let mut other = scene.tunnel(7).await;
    other.echo().await;
}

#[tokio::test]
async fn c5_many_users_share_the_slots_of_one() {
    let scene = Scene::new(20, NEVER).await;
    let mut greedy = Vec::new();
    for _ in 0..20 {
        greedy.push(scene.tunnel(1).await);
    }
    let mut others = Vec::new();
    for uid in 100..110 {
        others.push(scene.tunnel(uid).await);
    }
    for tunnel in &mut others {
        tunnel.echo().await;
    }
    let mut kept = 0;
    for tunnel in &mut greedy {
        kept += usize::from(tunnel.try_echo().await);
    }
    assert_eq!(kept, 10);
}

#[tokio::test]
async fn c5_a_listener_beside_the_doors_is_shared_out_too() {
    let scene = Scene::new(4, NEVER).await;
    let beside = scene.open_beside(3);
    let mut idle = Vec::new();
    for _ in 0..3 {
        idle.push(scene.open_at(beside, 1).await);
    }
    let mut other = scene.open_at(beside, 2).await;
    other.send("anything".to_owned()).await;
    assert!(other.answers_within(TIMEOUT).await);
    assert!(idle[0].has_ended().await);
    assert_eq!(scene.doors.engine.counters().ended_for_others, 1);
}
