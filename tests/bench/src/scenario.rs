//! The scenarios: for each, the work, its unit, and the load.

mod loads;

use std::time::Duration;

use Unit::{Byte, One};
use Work::{Http, Interception, Refusal, Socks5, Tunnel};
pub(crate) use loads::{
    Held, get, get_beside_downloads, get_from, hold_tunnels, repeat_with_field,
};

use crate::dial::DENIED;
use crate::lab::{Lab, Resumes};
use crate::load::requests::Request;
use crate::load::{Done, Length};
use crate::programs::{Doors, Side, Work};
use loads::{
    download, hold_intercepted, multiplex, open, reconnect, repeat, repeat_intercepted, upload,
};

/// One row of the comparison.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) work: Work,
    pub(crate) measure: Measure,
    /// Whether our proxy takes part with the audit on, too.
    audited: bool,
}

/// How a scenario is measured.
pub(crate) enum Measure {
    /// CPU time for each unit of a load.
    Cpu(Unit, fn(&Lab, Doors, Length) -> anyhow::Result<Done>),
    /// Memory for each connection that is held.
    Memory(fn(usize, &Lab, Doors) -> anyhow::Result<Held>),
    /// From the start of the process to the first accepted connection.
    Start,
    /// Memory without a client.
    AtRest,
}

/// The unit that a load counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A request, a tunnel or a connection.
    One,
    /// A byte, reported by the GiB.
    Byte,
}

impl Scenario {
    /// Whether a program takes part.
    pub(crate) fn admits(&self, works: &[Work], side: Side) -> bool {
        works.contains(&self.work) && (self.audited || side != Side::Audited)
    }
}

/// A scenario of CPU time.
const fn cpu(
    name: &'static str,
    title: &'static str,
    work: Work,
    unit: Unit,
    load: fn(&Lab, Doors, Length) -> anyhow::Result<Done>,
) -> Scenario {
    other(name, title, work, Measure::Cpu(unit, load))
}

const fn other(name: &'static str, title: &'static str, work: Work, measure: Measure) -> Scenario {
    Scenario {
        name,
        title,
        work,
        measure,
        audited: false,
    }
}

/// The same, also with the audit on.
const fn audited(scenario: Scenario) -> Scenario {
    Scenario {
        audited: true,
        ..scenario
    }
}

/// All scenarios, in the order of the report.
pub(crate) const ALL: [Scenario; 22] = [
    cpu(
        "tunnel-down",
        "GiB down through 4 tunnels",
        Tunnel,
        Byte,
        |lab, doors, length| download(doors.tunnel(|fixed| fixed.source)?, lab, length),
    ),
    cpu(
        "tunnel-up",
        "GiB up through 4 tunnels",
        Tunnel,
        Byte,
        |lab, doors, length| upload(doors.tunnel(|fixed| fixed.sink)?, lab, length),
    ),
    cpu(
        "socks-down",
        "GiB down through 4 SOCKS5 tunnels",
        Socks5,
        Byte,
        |lab, doors, length| download(doors.socks5()?, lab, length),
    ),
    cpu(
        "socks-up",
        "GiB up through 4 SOCKS5 tunnels",
        Socks5,
        Byte,
        |lab, doors, length| upload(doors.socks5()?, lab, length),
    ),
    audited(cpu(
        "tunnel-32",
        "new tunnel, 32 at a time",
        Tunnel,
        One,
        |lab, doors, length| open(32, doors.tunnel(|fixed| fixed.echo)?, lab, length),
    )),
    cpu(
        "tunnel-1",
        "new tunnel, one at a time",
        Tunnel,
        One,
        |lab, doors, length| open(1, doors.tunnel(|fixed| fixed.echo)?, lab, length),
    ),
    cpu(
        "socks-32",
        "new SOCKS5 tunnel by name, 32 at a time",
        Socks5,
        One,
        |lab, doors, length| open(32, doors.socks5()?, lab, length),
    ),
    audited(cpu(
        "http-64",
        "HTTP request, 64 connections",
        Http,
        One,
        |lab, doors, length| get(64, 2, doors, lab, length),
    )),
    cpu(
        "http-1",
        "HTTP request, one connection",
        Http,
        One,
        |lab, doors, length| get(1, 2, doors, lab, length),
    ),
    cpu(
        "http-64k",
        "HTTP request, 64 KiB body, 16 connections",
        Http,
        One,
        |lab, doors, length| get(16, 65536, doors, lab, length),
    ),
    cpu(
        "http-beside",
        "HTTP request, 16 connections, beside a download of 0.5 GiB/s",
        Http,
        One,
        |lab, doors, length| {
            let every = Duration::from_micros(7_812);
            Ok(get_beside_downloads(1, Some(every), doors, lab, length)?.0)
        },
    ),
    audited(cpu(
        "refused-connect",
        "refused CONNECT, 32 connections",
        Refusal,
        One,
        |_, doors, length| repeat(32, &Request::connect(DENIED, 443, 403), doors, length),
    )),
    audited(cpu(
        "refused-get",
        "refused GET, 32 connections",
        Refusal,
        One,
        |_, doors, length| repeat(32, &Request::get(DENIED, 80, "/", 403), doors, length),
    )),
    cpu(
        "tls-h1",
        "intercepted request, HTTP/1.1, 32 connections",
        Interception,
        One,
        |lab, doors, length| repeat_intercepted(32, 2, doors, lab, length),
    ),
    cpu(
        "tls-h2",
        "intercepted request, HTTP/2, 4 connections of 8 streams",
        Interception,
        One,
        |lab, doors, length| multiplex(4, 8, doors, lab, length),
    ),
    cpu(
        "tls-64k",
        "intercepted request, HTTP/1.1, 64 KiB body, 16 connections",
        Interception,
        One,
        |lab, doors, length| repeat_intercepted(16, 65536, doors, lab, length),
    ),
    cpu(
        "tls-new",
        "new intercepted connection with a request",
        Interception,
        One,
        |lab, doors, length| reconnect(Resumes::Never, doors, lab, length),
    ),
    cpu(
        "tls-resumed",
        "the same, TLS session resumed",
        Interception,
        One,
        |lab, doors, length| reconnect(Resumes::Always, doors, lab, length),
    ),
    other(
        "idle",
        "memory of an idle tunnel",
        Tunnel,
        Measure::Memory(hold_tunnels),
    ),
    other(
        "idle-tls",
        "memory of an idle intercepted connection",
        Interception,
        Measure::Memory(hold_intercepted),
    ),
    other(
        "start",
        "from the start to the first connection",
        Http,
        Measure::Start,
    ),
    other("at-rest", "memory at rest", Http, Measure::AtRest),
];
