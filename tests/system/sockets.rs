//! Unsuitable socket units: each is refused with a sentence that names the remedy (SPEC L8,
//! L9).

use crate::service::{SOCKETS, Service};

#[test]
fn l9_the_error_for_an_unknown_socket_name_lists_the_valid_ones() {
    let service = Service::new();
    service.edit(SOCKETS[0], "[Socket]\nFileDescriptorName=web\n");
    service.start_in_vain();
    let entry = service.wait_for_message("a socket called \"web\"");
    assert!(
        entry.message().contains("http, socks5"),
        "{}",
        entry.message()
    );
}

#[test]
fn l8_a_socket_that_others_can_reach_is_refused() {
    let service = Service::new();
    service.edit(
        SOCKETS[0],
        "[Socket]\nListenStream=\nListenStream=0.0.0.0:3128\n",
    );
    service.start_in_vain();
    let entry = service.wait_for_message("listens on 0.0.0.0:3128");
    let message = entry.message();
    assert!(
        message.contains("dangerously_allow_non_loopback_proxy"),
        "{message}"
    );
}

#[test]
fn l8_a_socket_that_others_can_reach_is_accepted_if_opted_in() {
    let service = Service::new();
    service.edit(
        SOCKETS[0],
        "[Socket]\nListenStream=\nListenStream=0.0.0.0:3128\n",
    );
    let key = "dangerously_allow_non_loopback_proxy";
    service.configure(&e2e::daemon::Config::example().set("network", key, "true"));
    service.start();
    assert_eq!(service.get("http://blocked.test/").0, 403);
    // P6: the proxy knows all of its own addresses.
    let (_, body) = service.get("http://127.0.0.9:3128/");
    assert!(body.contains("loop_detected"), "{body}");
    let (_, body) = service.get("http://blocked.test:3128/");
    assert!(body.contains("not_allowed"), "{body}");
}

#[test]
fn l9_a_datagram_socket_is_refused() {
    let service = Service::new();
    service.edit(
        SOCKETS[1],
        "[Socket]\nListenStream=\nListenDatagram=127.0.0.1:8081\n",
    );
    service.start_in_vain();
    service.wait_for_message("not a stream socket (ListenStream=)");
}

#[test]
fn l9_two_sockets_of_one_name_are_refused() {
    let service = Service::new();
    service.edit(SOCKETS[0], "[Socket]\nListenStream=127.0.0.1:3129\n");
    service.start_in_vain();
    service.wait_for_message("two sockets called \"http\"");
}

#[test]
fn l9_socket_units_and_own_sockets_mix() {
    let service = Service::new();
    service.mask(&SOCKETS[1..]);
    service.start();
    assert_eq!(service.get("http://blocked.test/").0, 403);
    let open = service.machine().run(["ss", "-H", "-tln"]).stdout;
    for port in ["127.0.0.1:3128", "127.0.0.1:8081", "127.0.0.1:8080"] {
        assert!(open.contains(port), "{open}");
    }
    assert_eq!(service.show("NFileDescriptorStore"), "2");
}

#[test]
fn p6_an_address_of_another_machine_is_not_own() {
    let service = Service::new();
    service.edit(
        SOCKETS[0],
        "[Socket]\nListenStream=\nListenStream=0.0.0.0:3128\n",
    );
    let key = "dangerously_allow_non_loopback_proxy";
    let config = e2e::daemon::Config::example().set("network", key, "true");
    service.configure(&config.allow("192.0.2.1"));
    service.start();
    // It cannot be reached from the machine, which does not matter here.
    let (status, body) = service.get("http://192.0.2.1:3128/");
    assert_eq!(status, 502, "{body}");
    assert!(!body.contains("loop_detected"), "{body}");
}
