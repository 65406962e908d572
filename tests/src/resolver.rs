//! A name server for tests: on loopback only, with a table that the test fills and changes, and a
//! count of its queries.
//!
//! It speaks real DNS over UDP and TCP on one port, runs on a thread of its own (so that tests with
//! and without a runtime can use it) and stops when dropped. It deliberately has no zones, forwards
//! nothing, and caches nothing: a name that is not in the table does not exist.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use hickory_server::{
    net::runtime::Time,
    proto::{
        op::{Header, HeaderCounts, Metadata, ResponseCode},
        rr::{
            Name, RData, Record, RecordType,
            rdata::{CNAME, SOA},
        },
    },
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server},
    zone_handler::MessageResponseBuilder,
};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

/// The default TTL of answers, in seconds: longer than any test.
const DEFAULT_TTL: u32 = 60;
/// The TTL of "no such name" and "no such records", in seconds.
const NEGATIVE_TTL: u32 = 60;

/// A family of addresses, and so the type of the records that hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// A records.
    Ipv4,
    /// AAAA records.
    Ipv6,
}

/// The name server. Names are written without the trailing dot. Any name can be in the table, not
/// only those under `.test`: no other server is asked about it.
#[derive(Debug)]
pub struct StubResolver {
    address: SocketAddr,
    table: Table,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl StubResolver {
    /// Starts a server with an empty table on a free port of `127.0.0.1`; it serves when this
    /// returns. It blocks only while it binds, so asynchronous tests may call it too.
    ///
    /// # Panics
    ///
    /// When there is no free port or no thread: the test cannot go on.
    pub fn start() -> Self {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// As [`start`](Self::start), on a given address. For a test in a network of its own, whose ports
    /// are all free.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start), and when the port is taken.
    pub fn start_on(wanted: SocketAddr) -> Self {
        let table = Table::default();
        let handler = table.clone();
        let (stop, stopped) = oneshot::channel();
        let (ready, address) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime for the stub resolver");
            runtime.block_on(async move {
                let (udp, tcp) = bind_both(wanted)
                    .await
                    .expect("a port for the stub resolver");
                ready.send(udp.local_addr()).expect("the starter waits");
                let mut server = Server::new(handler);
                server.register_socket(udp);
                server.register_listener(tcp, Duration::from_secs(60), 32);
                // Dropping the server ends its tasks; an error of `stopped` means the same as a message.
                let _ = stopped.await;
            });
        });
        let address = address
            .recv()
            .expect("the stub resolver starts")
            .expect("a bound socket");
        Self {
            address,
            table,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Its address, for UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `name` has these addresses, with a TTL of a minute. A family without any has no records
    /// (NOERROR, nothing in it), not NXDOMAIN.
    pub fn answer(&self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        self.answer_with_ttl(name, addresses, DEFAULT_TTL);
    }

    /// As [`answer`](Self::answer), with a TTL in seconds.
    pub fn answer_with_ttl(
        &self,
        name: &str,
        addresses: impl IntoIterator<Item = IpAddr>,
        ttl: u32,
    ) {
        self.put(
            name,
            Answer {
                sets: vec![addresses.into_iter().collect()],
                ttl,
                ..Answer::default()
            },
        );
    }

    /// The first query of each record type for `name` gets the addresses of the first set, the second those
    /// of the second, and so on; the last set stays. The TTL is 0, so that every lookup asks again.
    pub fn answer_sequence(&self, name: &str, sets: Vec<Vec<IpAddr>>) {
        self.put(
            name,
            Answer {
                sets,
                ..Answer::default()
            },
        );
    }

    /// Makes `name` an alias of `target`: the answer is a CNAME and the records of `target` in the
    /// table, as from a recursive server.
    pub fn alias(&self, name: &str, target: &str) {
        let target = Some(name_of(target));
        self.put(
            name,
            Answer {
                target,
                ttl: DEFAULT_TTL,
                ..Answer::default()
            },
        );
    }

    /// Queries for `name` are counted and never answered.
    pub fn silent(&self, name: &str) {
        self.silent_family(name, Family::Ipv4);
        self.silent_family(name, Family::Ipv6);
    }

    /// Queries for one family of `name` are never answered; the other family is as it was.
    pub fn silent_family(&self, name: &str, family: Family) {
        self.misbehave(name, family, Misbehaviour::Silent);
    }

    /// From now on no query is answered, for any name. All are counted.
    pub fn fall_silent(&self) {
        self.table.lock().silent = true;
    }

    /// Queries for `name` are answered with SERVFAIL.
    pub fn servfail(&self, name: &str) {
        self.servfail_family(name, Family::Ipv4);
        self.servfail_family(name, Family::Ipv6);
    }

    /// Queries for one family of `name` are answered with SERVFAIL; the other family is as it was.
    pub fn servfail_family(&self, name: &str, family: Family) {
        self.misbehave(name, family, Misbehaviour::ServFail);
    }

    /// How many queries there were for `name`, of both families, over UDP and TCP. A query that the
    /// client repeats, because the answer is slow, counts once.
    pub fn queries(&self, name: &str) -> usize {
        self.table.lock().queries.get(name).copied().unwrap_or(0)
    }

    /// Every name that was queried, sorted.
    pub fn names_asked(&self) -> Vec<String> {
        self.table.lock().queries.keys().cloned().collect()
    }

    fn put(&self, name: &str, answer: Answer) {
        self.table.lock().answers.insert(name.to_owned(), answer);
    }

    fn misbehave(&self, name: &str, family: Family, misbehaviour: Misbehaviour) {
        let mut table = self.table.lock();
        let answer = table.answers.entry(name.to_owned()).or_default();
        answer.misbehaviour.insert(family, misbehaviour);
    }
}

impl Drop for StubResolver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panicked only if it never started, which the test has noticed by then.
            let _ = thread.join();
        }
    }
}

/// UDP and TCP on the same port. If it was chosen by the kernel for UDP and is taken for TCP, tries
/// another one.
async fn bind_both(
    wanted: SocketAddr,
) -> io::Result<(tokio::net::UdpSocket, tokio::net::TcpListener)> {
    let mut tries = 0;
    loop {
        let udp = tokio::net::UdpSocket::bind(wanted).await?;
        match tokio::net::TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < 20 => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Shared between the test and the server's thread.
#[derive(Debug, Clone, Default)]
struct Table(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    answers: HashMap<String, Answer>,
    queries: BTreeMap<String, usize>,
    silent: bool,
    /// The reply to each query, by its id: a repetition gets the same.
    replies: HashMap<(u16, RecordType, String), Reply>,
}

#[derive(Debug, Default)]
struct Answer {
    /// One set after the other; the last one repeats.
    sets: Vec<Vec<IpAddr>>,
    /// How many sets each family has used up.
    used: HashMap<Family, usize>,
    ttl: u32,
    target: Option<Name>,
    misbehaviour: HashMap<Family, Misbehaviour>,
}

#[derive(Debug, Clone, Copy)]
enum Misbehaviour {
    Silent,
    ServFail,
}

/// The reply to a query.
#[derive(Debug, Clone)]
enum Reply {
    Records(Vec<Record>),
    Code(ResponseCode),
    Nothing,
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock()
    }

    fn reply(&self, id: u16, name: &Name, record_type: RecordType) -> Reply {
        let mut inner = self.lock();
        let text = text_of(name);
        let query = (id, record_type, text.clone());
        if let Some(reply) = inner.replies.get(&query) {
            return reply.clone();
        }
        *inner.queries.entry(text).or_default() += 1;
        if inner.silent {
            return Reply::Nothing;
        }
        let reply = inner.reply(name, record_type);
        inner.replies.insert(query, reply.clone());
        reply
    }
}

impl Inner {
    fn reply(&mut self, name: &Name, record_type: RecordType) -> Reply {
        let family = match record_type {
            RecordType::A => Family::Ipv4,
            RecordType::AAAA => Family::Ipv6,
            _ => return Reply::Records(Vec::new()),
        };
        let mut records = Vec::new();
        let mut owner = (name.clone(), text_of(name));
        // A chain of aliases ends at a name without an alias; a loop is cut.
        for _ in 0..8 {
            let Some(answer) = self.answers.get_mut(&owner.1) else {
                return Reply::Code(ResponseCode::NXDomain);
            };
            match answer.misbehaviour.get(&family) {
                Some(Misbehaviour::Silent) => return Reply::Nothing,
                Some(Misbehaviour::ServFail) => return Reply::Code(ResponseCode::ServFail),
                None => {}
            }
            let Some(target) = answer.target.clone() else {
                records.extend(answer.next(family, &owner.0));
                break;
            };
            let alias = RData::CNAME(CNAME(target.clone()));
            records.push(Record::from_rdata(owner.0, answer.ttl, alias));
            owner = (target.clone(), text_of(&target));
        }
        Reply::Records(records)
    }
}

impl Answer {
    fn next(&mut self, family: Family, owner: &Name) -> Vec<Record> {
        let used = self.used.entry(family).or_default();
        let set = self.sets.get(*used).or(self.sets.last());
        *used += 1;
        let of_family = |address: &&IpAddr| address.is_ipv4() == (family == Family::Ipv4);
        let records = set.into_iter().flatten().filter(of_family);
        records
            .map(|address| Record::from_rdata(owner.clone(), self.ttl, (*address).into()))
            .collect()
    }
}

#[async_trait::async_trait]
impl RequestHandler for Table {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut client: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        let mut answers = Vec::new();
        match request.request_info() {
            Err(_) => metadata.response_code = ResponseCode::FormErr,
            Ok(info) => match self.reply(
                request.metadata.id,
                info.query.name(),
                info.query.query_type(),
            ) {
                Reply::Records(records) => answers = records,
                Reply::Code(code) => metadata.response_code = code,
                Reply::Nothing => return unsent(metadata),
            },
        }
        // Negative answers are cached by their SOA (RFC 2308).
        let negative = matches!(
            metadata.response_code,
            ResponseCode::NXDomain | ResponseCode::NoError
        );
        let authority = (answers.is_empty() && negative).then(start_of_authority);
        // Without EDNS an answer over UDP has at most 512 bytes. With some thirty addresses it is
        // truncated, and the client repeats the query over TCP.
        let response = MessageResponseBuilder::from_message_request(request).build(
            metadata,
            &answers,
            &[],
            &authority,
            &[],
        );
        // A client that has gone needs no answer.
        client
            .send_response(response)
            .await
            .unwrap_or_else(|_| unsent(metadata))
    }
}

fn unsent(metadata: Metadata) -> ResponseInfo {
    ResponseInfo::from(Header {
        metadata,
        counts: HeaderCounts::default(),
    })
}

fn start_of_authority() -> Record {
    let zone = name_of("test");
    let soa = SOA::new(zone.clone(), zone.clone(), 1, 60, 60, 60, NEGATIVE_TTL);
    Record::from_rdata(zone, NEGATIVE_TTL, RData::SOA(soa))
}

fn name_of(text: &str) -> Name {
    Name::from_labels(text.split('.').map(str::as_bytes)).expect("a DNS name in a test")
}

/// The raw labels, not hickory's display form (which escapes some and decodes A-labels): lower
/// case, without the trailing dot.
fn text_of(name: &Name) -> String {
    let labels: Vec<_> = name.iter().map(String::from_utf8_lossy).collect();
    labels.join(".").to_ascii_lowercase()
}
