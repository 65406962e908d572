//! Names to addresses: `localhost`, then the hosts file, then DNS (SPEC P4, C5).
//!
//! Each connection makes one lookup, for exactly the name that the policy judged: search domains are
//! never applied. The addresses are vetted elsewhere before one is dialled. This file judges neither names
//! nor addresses, and opens no connection to them. It queries only configured name servers; hickory's
//! built-in public servers are not used.

mod cache;
mod health;
mod hosts;
mod name_server;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use codex_network_config::{ResolvConf, ResolverFiles};
use codex_network_files::ReadError;
use futures_util::future::{BoxFuture, FutureExt, ready};
use hickory_resolver::{
    config::{
        ConnectionConfig, NameServerConfig, ResolveHosts, ResolverOpts, ServerOrderingStrategy,
    },
    net::NetError,
    proto::rr::Name,
};
use tokio::time::Instant;

use self::cache::DnsCache;
pub use self::health::{NameServerHealth, NameServers, NameServersFrom};
use self::hosts::Hosts;
use self::name_server::NameServer;

/// Most addresses of one family that a name may have. An answer with more is refused as a whole, since
/// all of them would need vetting. Real names have at most a few dozen.
const MAX_ADDRESSES: usize = 256;

/// How an engine resolves names.
#[derive(Clone)]
pub(crate) enum Resolver {
    /// The hosts file and DNS, configured by the settings.
    Dns(Arc<DnsResolver>),
    /// The embedder's resolver. New settings do not replace it.
    Own(Arc<dyn Resolve>),
}

impl Resolver {
    /// Looks names up.
    pub(crate) fn as_resolve(&self) -> &dyn Resolve {
        match self {
            Self::Dns(resolver) => resolver.as_ref(),
            Self::Own(resolver) => resolver.as_ref(),
        }
    }
}

/// Resolves names; tests use scripted resolvers.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of `name`, in the order of preference; never an empty list.
    ///
    /// `name` is a canonical host name as the policy judged it: lower-case A-labels, no trailing dot, not
    /// an address literal. It is looked up as it stands, as an absolute name.
    ///
    /// # Errors
    ///
    /// See [`ResolveError`]; all of them are `dns_failure` to a client (SPEC P4).
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>>;
}

/// Why there are no addresses for a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The name does not exist, or has no address.
    #[error("no such host")]
    NotFound,
    /// No name server answered within the limit.
    #[error("the name lookup timed out")]
    Timeout,
    /// The name servers failed. The detail is for the log, never for clients (SPEC H7).
    #[error("the name lookup failed: {0}")]
    Unavailable(String),
    /// There is no name server to query. The detail is for the log.
    #[error("no name server is known: {0}")]
    NoNameServer(String),
}

/// Why a resolver cannot be made from its settings.
#[derive(Debug, thiserror::Error)]
pub enum ResolverSetupError {
    /// The hosts file that the settings name cannot be read.
    #[error("cannot read the hosts file {}", path.display())]
    HostsFile {
        /// As written in the settings.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The DNS client refused its configuration.
    #[error("cannot set up the DNS client")]
    Client(#[from] NetError),
}

/// The settings of `[daemon.resolver]` (SPEC C5).
#[derive(Debug, Clone)]
pub struct ResolverOptions {
    /// The servers to query, in this order, over UDP, and over TCP for answers that do not fit. Empty:
    /// those of the system (`/etc/resolv.conf`).
    pub nameservers: Vec<SocketAddr>,
    /// The limit of one lookup, everything included: both families, all servers, retries, TCP.
    pub timeout: Duration,
    /// The hosts file; `None` is the system's, which may be missing.
    pub hosts_file: Option<PathBuf>,
    /// The contents of the files, if another process has read them. The resolver then opens no
    /// file.
    pub files: ResolverFiles,
}

/// The resolver of the daemon: hosts file and DNS.
///
/// Files are read once, when it is made; new settings and changed files make a new resolver. Name servers
/// are queried in the order of the settings. The next server is queried only if the previous one failed,
/// or did not answer in its share of the limit: with split DNS, the first server knows names that the
/// others do not. A server that answers no query at all is queried last. A name that gets no answer
/// does not change the order.
#[derive(Debug)]
pub struct DnsResolver {
    hosts: Hosts,
    from: NameServersFrom,
    /// Shared with a resolver that replaces this one and has the same name servers.
    servers: Arc<Servers>,
    limit: Duration,
}

impl DnsResolver {
    /// Reads the hosts file and, if the options name no servers, the system's DNS configuration. Sends
    /// nothing. If the system has no usable configuration this succeeds, and lookups that need DNS are
    /// [`ResolveError::Unavailable`].
    ///
    /// # Errors
    ///
    /// Returns an error if a named hosts file cannot be read, or the DNS client cannot be made.
    pub fn new(options: &ResolverOptions) -> Result<Self, ResolverSetupError> {
        let hosts = match (&options.files.hosts, &options.hosts_file) {
            (Some(content), _) => Hosts::parse(content),
            (None, Some(path)) => {
                Hosts::read(path).map_err(|source| ResolverSetupError::HostsFile {
                    path: path.clone(),
                    source,
                })?
            }
            (None, None) => Hosts::read_system(),
        };
        let (from, servers) = if options.nameservers.is_empty() {
            let system = system(options).map(|content| ResolvConf::parse(&content));
            let servers = Servers::of_system(system, options.timeout)?;
            (NameServersFrom::System, servers)
        } else {
            let configs = options.nameservers.iter().map(plain_dns).collect();
            let servers = Servers::of_configs(configs, ResolverOpts::default(), options.timeout)?;
            (NameServersFrom::Settings, servers)
        };
        Ok(Self {
            hosts,
            from,
            servers: Arc::new(servers),
            limit: options.timeout,
        })
    }

    /// Like [`new`](Self::new), after a file has changed under the same settings. If the name
    /// servers are the same, the new resolver takes over their cached answers and their health. It
    /// also takes over the servers if `/etc/resolv.conf` is invalid or incomplete now.
    ///
    /// # Errors
    ///
    /// The same as [`new`](Self::new).
    pub fn renewed(&self, options: &ResolverOptions) -> Result<Self, ResolverSetupError> {
        // Read once, so that the text that is checked is also used.
        let mut options = options.clone();
        let mut is_broken = false;
        if options.nameservers.is_empty() {
            let text = system(&options);
            is_broken = !text
                .as_ref()
                .is_ok_and(|text| ResolvConf::parse_whole(text).is_some());
            options.files.resolv_conf = text.ok().map(Into::into).or(options.files.resolv_conf);
        }
        let mut new = Self::new(&options)?;
        if new.limit == self.limit && (is_broken || new.servers.are_same(&self.servers)) {
            new.servers = Arc::clone(&self.servers);
        }
        Ok(new)
    }

    /// The name servers in use and their health.
    pub fn name_servers(&self) -> NameServers {
        let (servers, problem) = match &*self.servers {
            Servers::Ready { servers, .. } => (servers.as_slice(), None),
            Servers::Unknown(why) => (&[][..], Some(why.clone())),
        };
        let reported = servers.iter().take(health::MAX_REPORTED);
        NameServers {
            from: self.from,
            servers: reported.map(NameServer::health).collect(),
            problem,
        }
    }

    /// The addresses of a name that needs no query.
    fn without_query(&self, name: &str) -> Option<Vec<IpAddr>> {
        if is_localhost(name) {
            return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        self.hosts.0.get(name).cloned()
    }

    async fn query(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let servers = match &*self.servers {
            Servers::Ready { servers, .. } => servers,
            Servers::Unknown(detail) => return Err(ResolveError::NoNameServer(detail.clone())),
        };
        // The name is absolute and its labels are used unchanged: no search domain, no escapes, no
        // second IDNA conversion. A name that DNS cannot express does not exist.
        let text = Arc::from(name);
        let name = Name::from_labels(name.split('.').map(str::as_bytes))
            .map_err(|_| ResolveError::NotFound)?;

        let deadline = Instant::now() + self.limit;
        let mut in_order: Vec<&NameServer> = servers.iter().collect();
        in_order.sort_by_key(|server| server.is_silent()); // stable: else the order of the settings
        let mut failure = ResolveError::Timeout;
        for (asked, server) in (0_u32..).zip(&in_order) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let remaining = u32::try_from(in_order.len()).unwrap_or(u32::MAX) - asked;
            match server.addresses(&name, &text, left / remaining).await {
                Err(error @ (ResolveError::Timeout | ResolveError::Unavailable(_))) => {
                    failure = error;
                }
                answer => return answer,
            }
        }
        Err(failure)
    }
}

impl Resolve for DnsResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        // The future of a query is large. It is made only for a name that needs a query.
        match self.without_query(name) {
            Some(addresses) => ready(Ok(addresses)).boxed(),
            None => self.query(name).boxed(),
        }
    }
}

/// The text of the system's DNS configuration, which another process may have read.
fn system(options: &ResolverOptions) -> Result<String, String> {
    match options.files.resolv_conf.as_deref() {
        Some(content) => Ok(content.to_owned()),
        None => read_resolv_conf(),
    }
}

/// Reads the system's DNS configuration. A file that is missing counts as empty.
fn read_resolv_conf() -> Result<String, String> {
    match ResolvConf::READING.read_text(Path::new(ResolvConf::PATH)) {
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        content => content.map_err(|error| error.to_string()),
    }
}

/// RFC 6761 section 6.3: these names always mean this host.
fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// A server that speaks plain DNS, UDP first, on a port of its own.
fn plain_dns(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// The name servers to query.
#[derive(Debug)]
enum Servers {
    Ready {
        /// Addresses and EDNS, to compare with those of changed files.
        asked: ServerList,
        servers: Vec<NameServer>,
    },
    /// There is no name server, for this reason.
    Unknown(String),
}

/// How name servers are queried: their addresses in order, and whether with EDNS.
#[derive(Debug, PartialEq, Eq)]
struct ServerList {
    servers: Vec<SocketAddr>,
    edns: bool,
}

impl Servers {
    /// The servers of the system's DNS configuration, and its choice about EDNS; search domains and
    /// the rest are not used.
    ///
    /// Without a server, resolver(3) queries one on this machine. This resolver does not, since a program
    /// on port 53 need not be a name server that this machine trusts.
    fn of_system(system: Result<ResolvConf, String>, limit: Duration) -> Result<Self, NetError> {
        let system = match system {
            Ok(system) => system,
            Err(error) => {
                let why = format!("cannot read the system's DNS configuration: {error}");
                return Ok(Self::Unknown(why));
            }
        };
        if system.servers.is_empty() {
            return Ok(Self::Unknown(
                "/etc/resolv.conf names no usable name server".into(),
            ));
        }
        let configs = system.servers.into_iter();
        let configs = configs.map(NameServerConfig::udp_and_tcp).collect();
        let mut options = ResolverOpts::default();
        options.edns0 = system.edns;
        Self::of_configs(configs, options, limit)
    }

    /// Whether both resolvers query the same servers with the same options.
    fn are_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ready { asked: one, .. }, Self::Ready { asked: two, .. }) => one == two,
            (Self::Unknown(one), Self::Unknown(two)) => one == two,
            _ => false,
        }
    }

    /// One client per server. With several servers in one client, hickory reorders them by their
    /// response times, so one name without an answer reorders them for all names. With a fixed order it
    /// never queries the second server: the limit is used up when the first is silent, and a failure
    /// counts as the answer. With one server for each client, this file controls the order.
    fn of_configs(
        configs: Vec<NameServerConfig>,
        mut options: ResolverOpts,
        limit: Duration,
    ) -> Result<Self, NetError> {
        options.timeout = limit;
        options.attempts = 0; // hickory repeats UDP queries anyway, and the next server is the retry
        options.cache_size = 0; // see `cache`
        options.use_hosts_file = ResolveHosts::Never;
        options.preserve_intermediates = true; // aliases connect the name with the addresses in an answer
        options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
        options.num_concurrent_reqs = 1;
        let answers = Arc::<DnsCache>::default();
        let asked = ServerList {
            servers: configs.iter().map(name_server::address).collect(),
            edns: options.edns0,
        };
        let servers = configs
            .into_iter()
            .enumerate()
            .map(|(index, config)| {
                NameServer::new(index, config, options.clone(), Arc::clone(&answers))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self::Ready { asked, servers })
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::op::Message;
    use tokio::net::UdpSocket;
    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// A resolver with this hosts file and no name server: a lookup that needs DNS fails.
    fn without_dns(hosts: &str) -> DnsResolver {
        let servers = Servers::of_system(Err("it is not there".into()), LIMIT).unwrap();
        DnsResolver {
            hosts: Hosts::parse(hosts),
            from: NameServersFrom::System,
            servers: Arc::new(servers),
            limit: LIMIT,
        }
    }

    async fn found(resolver: &DnsResolver, name: &str) -> Vec<String> {
        let addresses = resolver.resolve(name).await.unwrap();
        addresses.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn p4_localhost_is_this_host_even_if_the_hosts_file_differs() {
        let resolver = without_dns("192.0.2.1 localhost db.localhost");
        for name in ["localhost", "db.localhost", "a.b.localhost"] {
            assert_eq!(found(&resolver, name).await, ["127.0.0.1", "::1"], "{name}");
        }
        for name in ["notlocalhost", "localhost.test"] {
            let answer = resolver.resolve(name).await;
            assert!(
                matches!(answer, Err(ResolveError::NoNameServer(_))),
                "{name}"
            );
        }
    }

    #[tokio::test]
    async fn the_hosts_file_answers_with_ipv6_first() {
        let resolver = without_dns(
            "\u{feff}192.0.2.1\tapi.test  www.api.test # the first\n\
             # 192.0.2.9 commented.test\n\
             \n\
             192.0.2.2 API.Test.\r\n\
             2001:db8::1 api.test#close\n\
             192.0.2.1 api.test\n\
             fe80::1%lo0 scoped.test\n\
             not-an-address bad.test\n\
             192.0.2.3\n\
             192.0.2.4 last.test",
        );
        let api = ["2001:db8::1", "192.0.2.1", "192.0.2.2"];
        assert_eq!(found(&resolver, "api.test").await, api);
        assert_eq!(found(&resolver, "www.api.test").await, ["192.0.2.1"]);
        assert_eq!(found(&resolver, "last.test").await, ["192.0.2.4"]);
        for name in ["commented.test", "scoped.test", "bad.test", "the", "first"] {
            let answer = resolver.resolve(name).await;
            assert!(
                matches!(answer, Err(ResolveError::NoNameServer(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn a_line_that_is_not_utf8_does_not_end_the_hosts_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"192.0.2.1 caf\xe9\n192.0.2.2 next.test\n").unwrap();
        let hosts = Hosts::read(file.path()).unwrap();
        let expected: IpAddr = "192.0.2.2".parse().unwrap();
        assert_eq!(hosts.0["next.test"], [expected]);
    }

    #[test]
    fn a_hosts_file_that_is_named_must_be_there() {
        let directory = tempfile::tempdir().unwrap();
        let options = ResolverOptions {
            nameservers: vec!["127.0.0.1:9".parse().unwrap()],
            timeout: LIMIT,
            hosts_file: Some(directory.path().join("hosts")),
            files: ResolverFiles::default(),
        };
        let error = DnsResolver::new(&options).unwrap_err();
        assert!(
            matches!(error, ResolverSetupError::HostsFile { .. }),
            "{error}"
        );
    }

    /// hickory's default configuration is a public service, and resolver(3) queries 127.0.0.1. A machine
    /// without a configuration must use neither.
    #[tokio::test]
    async fn l14_without_a_system_configuration_no_name_server_is_known_and_the_error_has_the_reason()
     {
        for system in [
            Err("it is not there".to_owned()),
            Ok(ResolvConf::default()),
            Ok(ResolvConf::parse("search lan\n")),
        ] {
            let servers = Servers::of_system(system, LIMIT).unwrap();
            let resolver = DnsResolver {
                servers: Arc::new(servers),
                ..without_dns("")
            };
            let answer = resolver.resolve("example.test").await;
            assert!(
                matches!(answer, Err(ResolveError::NoNameServer(_))),
                "{answer:?}"
            );
            let reported = resolver.name_servers();
            assert!(reported.servers.is_empty() && reported.problem.is_some());
        }
    }

    #[tokio::test]
    async fn l14_a_changed_hosts_file_leaves_the_name_servers_and_their_answers() {
        let options = |hosts: &str, resolv_conf: &str| ResolverOptions {
            nameservers: Vec::new(),
            timeout: LIMIT,
            hosts_file: None,
            files: ResolverFiles {
                hosts: Some(hosts.into()),
                resolv_conf: Some(resolv_conf.into()),
            },
        };
        let old = DnsResolver::new(&options("", "nameserver 192.0.2.1\n")).unwrap();
        let same = "# a comment\nnameserver 192.0.2.1\n";
        let new = old.renewed(&options("192.0.2.9 a.test", same)).unwrap();
        assert!(Arc::ptr_eq(&old.servers, &new.servers));
        assert_eq!(found(&new, "a.test").await, ["192.0.2.9"]);
        for other in [
            "nameserver 192.0.2.2\n",
            "nameserver 192.0.2.1\noptions edns0\n",
            "nameserver 192.0.2.1\nnameserver 192.0.2.2\n",
            "",
            "# no network\n",
        ] {
            let new = old.renewed(&options("", other)).unwrap();
            assert!(!Arc::ptr_eq(&old.servers, &new.servers), "{other}");
        }
        let new = old.renewed(&options("", "names")).unwrap();
        assert!(Arc::ptr_eq(&old.servers, &new.servers), "half of a file");
    }

    /// The policy judged exactly this name, so exactly this name must be looked up.
    #[tokio::test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the test is the name server, which answers"
    )]
    async fn the_systems_search_domains_and_ndots_are_never_applied() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let text = "domain corp.test\nsearch search.test\noptions ndots:5\nnameserver 127.0.0.1\n";
        assert_eq!(ResolvConf::parse(text).servers, [address.ip()]);
        let mut config = plain_dns(&address); // the file has no ports
        config.connections.truncate(1); // UDP alone
        let servers = Servers::of_configs(vec![config], ResolverOpts::default(), LIMIT).unwrap();
        let resolver = DnsResolver {
            servers: Arc::new(servers),
            ..without_dns("")
        };

        let answer_all_with_no_such_name = async {
            let mut asked = Vec::new();
            let mut buffer = [0; 512];
            while asked.len() < 2 {
                let (length, client) = server.recv_from(&mut buffer).await.unwrap();
                asked.push(
                    Message::from_vec(&buffer[..length]).unwrap().queries[0]
                        .name()
                        .to_string(),
                );
                buffer[2] |= 0x80; // QR: a response
                buffer[3] = 0x83; // RA, RCODE 3: no such name
                server.send_to(&buffer[..length], client).await.unwrap();
            }
            asked
        };
        let lookup = resolver.resolve("intranet");
        let both = async { tokio::join!(answer_all_with_no_such_name, lookup) };
        let (asked, answer) = timeout(2 * LIMIT, both).await.expect("two queries come");
        assert_eq!(asked, ["intranet.", "intranet."]); // AAAA and A
        assert_eq!(answer, Err(ResolveError::NotFound));
    }
}
