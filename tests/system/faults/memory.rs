//! The kernel kills a worker for lack of memory.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use e2e::wait::{TIMEOUT, poll};

use super::{Traffic, leaves_nothing_behind};
use crate::load::failures;
use crate::service::Service;

/// A limit of memory that is too small for the worker's next connections.
const LIMIT: &str = "16384";

/// A control group with little memory, which is removed when this value is dropped.
struct Group(PathBuf);

impl Group {
    /// `None` without a memory controller of version 1.
    fn new() -> Option<Self> {
        let groups = Path::new("/sys/fs/cgroup/memory");
        if !groups.join("memory.limit_in_bytes").exists() {
            let line = "cannot run here: faults::memory: needs the memory controller of control groups, version 1\n";
            let _ = std::io::stderr().write_all(line.as_bytes());
            return None;
        }
        let group = groups.join(format!("codex-network-proxy-test-{}", std::process::id()));
        fs::create_dir(&group).expect("root makes any group");
        fs::write(group.join("memory.limit_in_bytes"), LIMIT).expect("root limits any group");
        Some(Self(group))
    }

    fn add(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("root moves any process");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It can be removed when the last process has ended.
        poll(TIMEOUT, || fs::remove_dir(&self.0).ok());
    }
}

#[test]
fn l9_a_worker_killed_for_lack_of_memory_is_replaced() {
    let service = Service::new();
    let origin = service.origin();
    service.start();
    // The service manager must not stop the whole service because of it.
    assert_eq!(service.show("OOMPolicy"), "continue");
    let monitor = service.monitor();
    let traffic = Traffic::start(&service, &origin);
    for _ in 0..3 {
        let Some(group) = Group::new() else {
            return;
        };
        let worker = service.wait_for_worker(None);
        group.add(service.machine().outside(worker));
        poll(TIMEOUT, || (!service.is_alive(worker)).then_some(()))
            .unwrap_or_else(|| panic!("it is not killed\n{}", service.log()));
        let gone = Instant::now();
        service.wait_for_worker(Some(worker));
        traffic.recovers(&service, gone);
        traffic.continues();
    }
    service.wait_for_message("the worker is gone (signal: 9 (SIGKILL))");
    let lost = failures(&traffic.finish(&service)).len();
    assert!(lost <= 3 * 2, "{lost} requests were lost");
    assert_eq!(service.monitor(), monitor);
    leaves_nothing_behind(&service);
}
