//! Processes that die, and restarts under load: clients wait, and no client is refused
//! (`ARCHITECTURE.md`, "Three roles, one program").

use std::time::Instant;

use e2e::wait::{TIMEOUT, poll};

use crate::load::{Load, failures, refused, served_again};
use crate::scene::{HTTP, ONE_SECOND, SERVICE, SOCKETS, Scene};

#[test]
fn l9_a_killed_worker_is_replaced_within_a_second_and_nobody_is_refused() {
    let scene = Scene::new();
    let origin = scene.origin();
    scene.start();
    let (monitor, worker) = (scene.monitor(), scene.wait_for_worker(None));
    let load = Load::start(4, HTTP, &origin.url("allowed.test", "/"));
    load.wait_for(50);
    let killed = Instant::now();
    scene.kill("KILL", worker);
    let other = scene.wait_for_worker(Some(worker));
    load.wait_for(50);
    let attempts = load.finish();
    assert_eq!(refused(&attempts), 0);
    let again = served_again(&attempts, killed).expect("it is served again");
    assert!(again - killed < ONE_SECOND, "{:?}", again - killed);
    // Only the worker's open requests were lost.
    let lost = failures(&attempts);
    assert!(lost.len() <= 4, "{lost:#?}");
    assert_ne!(other, worker);
    assert_eq!(scene.monitor(), monitor);
    let said = scene.wait_for_message("the worker is gone");
    assert_eq!(said.field("RESTARTS"), Some("1"), "{}", said.message());
}

#[test]
fn l9_the_status_shows_that_a_worker_was_replaced() {
    let scene = Scene::new();
    scene.start();
    let worker = scene.wait_for_worker(None);
    scene.kill("KILL", worker);
    scene.wait_for_worker(Some(worker));
    // Permanently, not only while it starts.
    scene.wait_for_message("ready");
    scene.wait_for("StatusText", |status| status.contains("connections"));
    let status = scene.show("StatusText");
    assert!(status.contains("worker restarted 1 times"), "{status}");
}

#[test]
fn l9_a_killed_monitor_takes_its_worker_along_and_nobody_is_refused() {
    let scene = Scene::new();
    let origin = scene.origin();
    scene.start();
    let (monitor, worker) = (scene.monitor(), scene.wait_for_worker(None));
    let load = Load::start(4, HTTP, &origin.url("allowed.test", "/"));
    load.wait_for(50);
    let killed = Instant::now();
    scene.kill("KILL", monitor);
    poll(TIMEOUT, || (!scene.is_alive(worker)).then_some(())).expect("the worker dies");
    scene.wait_for("NRestarts", |restarts| restarts == "1");
    scene.wait_for("ActiveState", |state| state == "active");
    load.wait_for(50);
    let attempts = load.finish();
    assert_eq!(refused(&attempts), 0);
    assert!(served_again(&attempts, killed).is_some());
    let lost = failures(&attempts);
    assert!(lost.len() <= 4, "{lost:#?}");
    assert_ne!(scene.monitor(), monitor);
    assert_eq!(scene.show("Result"), "success");
}

#[test]
fn l9_a_worker_does_not_outlive_its_monitor_even_where_nobody_cleans_up() {
    let scene = Scene::new();
    // The service manager leaves everything but the main process alone.
    scene.edit(SERVICE, "[Service]\nKillMode=process\nRestart=no\n");
    scene.start();
    let (monitor, worker) = (scene.monitor(), scene.wait_for_worker(None));
    // A worker that could not notice that the channel has closed.
    scene.kill("STOP", worker);
    scene.kill("KILL", monitor);
    poll(TIMEOUT, || (!scene.is_alive(worker)).then_some(())).expect("the kernel ends it");
}

#[test]
fn l9_a_restart_under_load_refuses_nobody_with_socket_units() {
    let scene = Scene::new();
    restart_under_load(&scene);
    assert_eq!(scene.show("NFileDescriptorStore"), "0");
}

#[test]
fn l9_a_restart_under_load_refuses_nobody_with_stored_sockets() {
    let scene = Scene::new();
    scene.mask(&SOCKETS);
    restart_under_load(&scene);
    assert_eq!(scene.show("NFileDescriptorStore"), "3");
    for socket in SOCKETS {
        scene.systemctl(&["is-active", socket]).failed();
    }
}

#[test]
fn l9_stored_sockets_survive_a_killed_monitor() {
    let scene = Scene::new();
    scene.mask(&SOCKETS);
    let origin = scene.origin();
    scene.start();
    let load = Load::start(4, HTTP, &origin.url("allowed.test", "/"));
    load.wait_for(50);
    scene.kill("KILL", scene.monitor());
    scene.wait_for("NRestarts", |restarts| restarts == "1");
    load.wait_for(50);
    assert_eq!(refused(&load.finish()), 0);
}

#[test]
fn l9_a_stored_socket_is_let_go_when_the_address_moves() {
    let scene = Scene::new();
    scene.mask(&SOCKETS);
    scene.start();
    let moved = e2e::daemon::Config::example();
    scene.configure(&moved);
    let path = scene.machine().path("/etc/codex-network-proxy/config.toml");
    let text = std::fs::read_to_string(&path).expect("it is there");
    let text = text.replace(
        "[network]\n",
        "[network]\nproxy_url = \"http://127.0.0.1:3333\"\n",
    );
    scene.configure_text(&text);
    scene.systemctl(&["reload", SERVICE]).succeeded();
    poll(TIMEOUT, || {
        let open = scene.machine().run(["ss", "-H", "-tln"]).stdout;
        (open.contains("127.0.0.1:3333") && !open.contains(HTTP)).then_some(())
    })
    .unwrap_or_else(|| panic!("{}", scene.machine().run(["ss", "-tlnp"]).stdout));
    scene.systemctl(&["restart", SERVICE]).succeeded();
    let open = scene.machine().run(["ss", "-H", "-tln"]).stdout;
    assert!(
        open.contains("127.0.0.1:3333") && !open.contains(HTTP),
        "{open}"
    );
}

fn restart_under_load(scene: &Scene) {
    let origin = scene.origin();
    scene.start();
    let load = Load::start(4, HTTP, &origin.url("allowed.test", "/"));
    for _ in 0..3 {
        load.wait_for(50);
        let before = scene.monitor();
        scene.systemctl(&["restart", SERVICE]).succeeded();
        assert_ne!(scene.monitor(), before);
    }
    load.wait_for(50);
    let attempts = load.finish();
    assert_eq!(refused(&attempts), 0);
    // Open requests were completed. At most a client that had connected and not yet asked is lost.
    let lost = failures(&attempts);
    assert!(lost.len() <= 4, "{lost:#?}");
}
