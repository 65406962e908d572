//! Faults around the service and in it, under load (SPEC L9, L14, L15, L16, R4, C7): no blocked host
//! opens, no promise is broken, and the service recovers by itself.
//!
//! The machine is a container without `CAP_SYS_TIME`, so its clock cannot be set. The parts that use the
//! clock have tests of their own.

mod descriptors;
mod disk;
mod journal;
mod memory;
mod network;
mod reload;
mod restart;
mod standby;

use std::time::Instant;

use e2e::origin::Origin;
use e2e::wait::{TIMEOUT, poll};

use crate::load::{Attempt, Load, Outcome, refused};
use crate::service::{HTTP, NO_STALL, SOCKETS, Service};

/// Clients of an allowed host and of a blocked one, which keep sending during a fault.
struct Traffic {
    url: String,
    allowed: Load,
    blocked: Load,
    /// The origin of the blocked host, which no request may reach.
    unreachable: Origin,
}

impl Traffic {
    /// Starts the clients, and waits until both kinds are answered.
    fn start(service: &Service, origin: &Origin) -> Self {
        Self::to(service, origin.url("allowed.test", "/"))
    }

    fn to(service: &Service, url: String) -> Self {
        let unreachable = service.origin();
        let traffic = Self {
            allowed: Load::start(2, HTTP, &url),
            blocked: Load::start(1, HTTP, &unreachable.url("blocked.test", "/")),
            unreachable,
            url,
        };
        traffic.continues();
        traffic
    }

    /// Waits for further answers of both kinds.
    fn continues(&self) {
        self.allowed.wait_for(5);
        self.blocked.wait_for(5);
    }

    /// Waits until a new client is served. The fault has been gone since `gone`.
    #[track_caller]
    fn recovers(&self, service: &Service, gone: Instant) {
        let door = HTTP.parse().expect("an address");
        let request = crate::service::request(&self.url);
        let served = poll(TIMEOUT, || {
            Attempt::make(door, &request).is_served().then(Instant::now)
        });
        let served = served.unwrap_or_else(|| panic!("no client is served\n{}", service.log()));
        let took = served - gone;
        assert!(took < NO_STALL, "{took:?}\n{}", service.log());
    }

    /// Ends the clients. No client was refused by a closed port, the sockets are open, and the blocked
    /// host was never served or reached. Returns the results of the allowed requests.
    #[track_caller]
    fn finish(self, service: &Service) -> Vec<Attempt> {
        let (allowed, blocked) = (self.allowed.finish(), self.blocked.finish());
        let opened = blocked.iter().find(|attempt| match attempt.outcome {
            Outcome::Answered(status, _) => status != 403 && status != 503,
            Outcome::Refused | Outcome::Broken(_) => false,
        });
        assert!(opened.is_none(), "{opened:#?}");
        assert_eq!(self.unreachable.connections(), 0, "the blocked host");
        assert_eq!(refused(&allowed) + refused(&blocked), 0, "closed ports");
        for socket in SOCKETS {
            let run = service.systemctl(&["is-active", socket]);
            assert_eq!(run.stdout.trim(), "active", "{socket}\n{}", service.log());
        }
        allowed
    }
}

/// Runs a script in the machine, which must succeed.
#[track_caller]
fn run(service: &Service, script: &str) {
    let script = format!("set -e; {script}");
    service.machine().run(["sh", "-c", &script]).succeeded();
}

/// Runs a script in the machine when dropped, to undo a fault even if the test fails.
struct Undo<'a>(&'a Service, &'static str);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        self.0.machine().run(["sh", "-c", self.1]);
    }
}

/// The processes of the service, apart from the monitor: workers, and loaders that have not ended.
fn other_processes(service: &Service) -> Vec<u32> {
    let run = service.machine().run(["pgrep", "--full", " (work|load)$"]);
    run.stdout
        .lines()
        .filter_map(|pid| pid.parse().ok())
        .filter(|pid| service.is_alive(*pid))
        .collect()
}

/// Waits until the monitor has one worker and no other process, and nothing is stored for a next start.
#[track_caller]
fn leaves_nothing_behind(service: &Service) {
    let alone = || {
        let worker = service.worker()?;
        let stored = service.show("NFileDescriptorStore");
        (other_processes(service) == [worker] && stored == "0").then_some(())
    };
    poll(TIMEOUT, alone).unwrap_or_else(|| {
        panic!(
            "{:?} and {} stored descriptors\n{}",
            other_processes(service),
            service.show("NFileDescriptorStore"),
            service.log()
        )
    });
}
