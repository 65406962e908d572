//! A shortage of descriptors.

use std::net::TcpStream;
use std::time::Instant;

use e2e::wait::{TIMEOUT, poll};

use super::Traffic;
use crate::load::failures;
use crate::service::{HTTP, SERVICE, Service, use_tunnel};

/// Few descriptors, but more than the roles need to start.
const DESCRIPTORS: usize = 96;

#[test]
fn l9_clients_wait_during_a_shortage_of_descriptors() {
    let service = Service::new();
    service.edit(SERVICE, &format!("[Service]\nLimitNOFILE={DESCRIPTORS}\n"));
    let origin = service.origin();
    service.start();
    let mut tunnel = service.tunnel("allowed.test", &origin);
    let (monitor, worker) = (service.monitor(), service.wait_for_worker(None));
    let traffic = Traffic::start(&service, &origin);
    let crowd: Vec<TcpStream> = (0..2 * DESCRIPTORS)
        .map(|_| TcpStream::connect(HTTP).expect("the kernel's queue has room"))
        .collect();
    service.wait_for_message("cannot accept clients");
    // Open connections work on, also when the monitor passes new settings.
    use_tunnel(&mut tunnel);
    service.kill("HUP", monitor);
    service.wait_for_message("reloaded");
    use_tunnel(&mut tunnel);
    drop(crowd);
    let gone = Instant::now();
    traffic.recovers(&service, gone);
    service.wait_for_message("accepting again");
    traffic.continues();
    use_tunnel(&mut tunnel);
    let attempts = traffic.finish(&service);
    // A client that was admitted when the last descriptor was taken gets an error.
    let lost = failures(&attempts);
    assert!(lost.len() <= 50, "{lost:#?}");
    assert_eq!(
        (service.monitor(), service.worker()),
        (monitor, Some(worker))
    );
    service.proxyctl("root", &["status"]).succeeded();
    let open = || {
        let path = service.machine().path(&format!("/proc/{worker}/fd"));
        std::fs::read_dir(path).map_or(usize::MAX, Iterator::count)
    };
    poll(TIMEOUT, || (open() < DESCRIPTORS / 2).then_some(()))
        .unwrap_or_else(|| panic!("{} descriptors stay open", open()));
}
