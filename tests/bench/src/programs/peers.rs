//! The peers: proxies of Debian, and the reference relay.
//!
//! Each is configured for speed and for no more than its part here: no cache, no log of connections, no lookups
//! that the policy does not need, and enough connections for all scenarios.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Doors, Fixed, Launch, Missing, Program, Side, Work, command};
use crate::dial::HOST;
use crate::lab::Lab;
use crate::machine;
use crate::process::{Log, free_port};

/// How a peer is found and started.
struct Peer {
    name: &'static str,
    /// The program, and the option that prints its version, if it has one.
    program: (&'static str, &'static str),
    package: &'static str,
    works: &'static [Work],
    prepare: fn(&Lab, &Path) -> anyhow::Result<Launch>,
}

const PEERS: [Peer; 7] = [
    Peer {
        name: "haproxy",
        program: ("haproxy", "-v"),
        package: "haproxy",
        works: &[Work::Http, Work::Refusal, Work::Tunnel],
        prepare: haproxy,
    },
    Peer {
        name: "squid",
        program: ("squid", "-v"),
        package: "squid-openssl",
        works: &[Work::Http, Work::Refusal, Work::Tunnel],
        prepare: |lab, folder| squid(lab, folder, &format!("http_port 127.0.0.1:{PORT}\n")),
    },
    Peer {
        name: "squid",
        program: ("squid", "-v"),
        package: "squid-openssl",
        works: &[Work::Interception],
        prepare: intercepting_squid,
    },
    Peer {
        name: "privoxy",
        program: ("privoxy", "--version"),
        package: "privoxy",
        works: &[Work::Http, Work::Refusal, Work::Tunnel],
        prepare: privoxy,
    },
    Peer {
        name: "tinyproxy",
        program: ("tinyproxy", "-v"),
        package: "tinyproxy",
        works: &[Work::Http, Work::Refusal, Work::Tunnel],
        prepare: tinyproxy,
    },
    Peer {
        name: "microsocks",
        program: ("microsocks", ""),
        package: "microsocks",
        works: &[Work::Socks5],
        prepare: microsocks,
    },
    Peer {
        name: "dante",
        program: ("danted", "-v"),
        package: "dante-server",
        works: &[Work::Socks5],
        prepare: dante,
    },
];

/// Stands for the port in a configuration until one is chosen.
const PORT: &str = "@PORT@";

/// The relay and the peers that this machine has, and the others.
pub(super) fn all() -> Vec<Result<Program, Missing>> {
    let relay = Program {
        name: "splice relay",
        side: Side::Peer,
        works: &[Work::Tunnel],
        version: String::from("of this package"),
        prepare: Box::new(relay),
    };
    let peers = PEERS.iter().map(|peer| {
        let (program, option) = peer.program;
        let version = match machine::version(program, option) {
            Some(version) => version,
            None if machine::has(program) => String::from("of unknown version"),
            None => {
                return Err(Missing {
                    name: peer.name,
                    package: peer.package,
                });
            }
        };
        Ok(Program {
            name: peer.name,
            side: Side::Peer,
            works: peer.works,
            version,
            prepare: Box::new(peer.prepare),
        })
    });
    std::iter::once(Ok(relay)).chain(peers).collect()
}

/// Forwards the three ports of tunnels, with splice. It speaks no proxy protocol.
fn relay(lab: &Lab, folder: &Path) -> anyhow::Result<Launch> {
    let fixed = fixed()?;
    let origin = lab.ports();
    let echoes: Vec<String> = origin.echoes.iter().map(u16::to_string).collect();
    let mut command = command(std::env::current_exe()?, folder);
    command
        .arg("relay")
        .arg(format!("{}:{}", fixed.source, origin.source))
        .arg(format!("{}:{}", fixed.sink, origin.sink))
        .arg(format!("{}:{}", fixed.echo, echoes.join(",")));
    Ok(Launch {
        command,
        log: Log::File,
        doors: Doors {
            fixed: Some(fixed),
            ..Doors::default()
        },
    })
}

/// Forwards the same ports in TCP mode with splice, and is an HTTP proxy to one fixed origin: it looks up no
/// names and does not serve CONNECT.
fn haproxy(lab: &Lab, folder: &Path) -> anyhow::Result<Launch> {
    let http = free_port()?;
    let fixed = fixed()?;
    let origin = lab.ports();
    let mut text = format!(
        "global\n maxconn {}\ndefaults\n timeout connect 5s\n timeout client 600s\n timeout server 600s\n\
         frontend http\n mode http\n bind 127.0.0.1:{http} backlog 4096\n http-request deny unless {{ url_dom {HOST} }}\n\
         \x20default_backend origin\nbackend origin\n mode http\n http-reuse always\n server origin 127.0.0.1:{}\n",
        max_connections(),
        origin.http
    );
    for (name, from, to) in [
        ("source", fixed.source, origin.source),
        ("sink", fixed.sink, origin.sink),
        ("echo", fixed.echo, origin.echoes[0]),
    ] {
        write!(
            text,
            "listen {name}\n mode tcp\n option splice-request\n option splice-response\n \
             bind 127.0.0.1:{from} backlog 4096\n server origin 127.0.0.1:{to}\n"
        )?;
    }
    let path = folder.join("haproxy.cfg");
    fs::write(&path, text)?;
    let mut command = command("haproxy", folder);
    command.arg("-db").arg("-f").arg(path);
    Ok(Launch {
        command,
        log: Log::File,
        doors: Doors {
            http: Some(http),
            fixed: Some(fixed),
            ..Doors::default()
        },
    })
}

fn squid(_lab: &Lab, folder: &Path, door: &str) -> anyhow::Result<Launch> {
    // It becomes another user if root starts it, and writes there.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777))?;
    let text = format!(
        "{door}acl allowed dstdomain -n {HOST}\nhttp_access allow allowed\nhttp_access deny all\ncache deny all\n\
         cache_mem 8 MB\naccess_log none\ncache_log {folder}/cache.log\ncache_store_log none\nnetdb_filename none\n\
         pid_filename none\npinger_enable off\ncoredump_dir {folder}\nshutdown_lifetime 0 seconds\nvia off\n\
         forwarded_for delete\nmax_filedescriptors 20000\n",
        folder = folder.display()
    );
    http_proxy(folder, "squid.conf", &text, &["squid", "-N", "-f"])
}

/// Squid that peeks at the client's hello and then decrypts.
fn intercepting_squid(lab: &Lab, folder: &Path) -> anyhow::Result<Launch> {
    let generator = "/usr/lib/squid/security_file_certgen";
    let database = folder.join("leaves");
    let made = command(generator, folder)
        .args(["-c", "-s"])
        .arg(&database)
        .args(["-M", "4MB"])
        .output()?;
    anyhow::ensure!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    command("chmod", folder)
        .args(["-R", "a+rwX"])
        .arg(&database)
        .status()?;
    let door = format!(
        "http_port 127.0.0.1:{PORT} ssl-bump generate-host-certificates=on dynamic_cert_mem_cache_size=4MB \
         tls-cert={ca} tls-key={key}\nsslcrtd_program {generator} -s {database} -M 4MB\n\
         sslcrtd_children 2 startup=1 idle=1\nacl hello at_step SslBump1\nssl_bump peek hello\nssl_bump bump all\n\
         tls_outgoing_options cafile={origin_ca}\n",
        ca = lab.ca().display(),
        key = lab.ca_key().display(),
        origin_ca = lab.origin_ca().display(),
        database = database.display(),
    );
    squid(lab, folder, &door)
}

fn privoxy(_lab: &Lab, folder: &Path) -> anyhow::Result<Launch> {
    fs::write(
        folder.join("policy.action"),
        format!("{{+block{{not allowed}}}}\n/\n{{-block}}\n{HOST}\n"),
    )?;
    let templates = folder.join("templates");
    fs::create_dir(&templates)?;
    for name in [
        "blocked",
        "connect-failed",
        "connection-timeout",
        "no-server-data",
    ] {
        fs::write(templates.join(name), "refused\n")?;
    }
    let text = format!(
        "confdir {folder}\nlogdir {folder}\ntempldir {folder}/templates\nactionsfile policy.action\n\
         listen-address 127.0.0.1:{PORT}\ntoggle 1\ndebug 0\nkeep-alive-timeout 60\ndefault-server-timeout 60\n\
         tolerate-pipelining 1\nconnection-sharing 1\nsocket-timeout 300\nmax-client-connections 9000\n\
         listen-backlog 1024\n",
        folder = folder.display()
    );
    http_proxy(folder, "config", &text, &["privoxy", "--no-daemon"])
}

fn tinyproxy(_lab: &Lab, folder: &Path) -> anyhow::Result<Launch> {
    let filter = folder.join("filter");
    fs::write(&filter, format!("^{HOST}$\n"))?;
    let text = format!(
        "Port {PORT}\nListen 127.0.0.1\nTimeout 600\nMaxClients 9000\nLogLevel Critical\nAllow 127.0.0.0/8\n\
         DisableViaHeader Yes\nFilter \"{}\"\nFilterExtended On\nFilterDefaultDeny Yes\n",
        filter.display()
    );
    http_proxy(folder, "tinyproxy.conf", &text, &["tinyproxy", "-d", "-c"])
}

/// It has no policy.
fn microsocks(_lab: &Lab, folder: &Path) -> anyhow::Result<Launch> {
    let port = free_port()?;
    let mut command = command("microsocks", folder);
    command.args(["-i", "127.0.0.1", "-p", &port.to_string()]);
    Ok(Launch {
        command,
        // It writes a line for each client.
        log: Log::Discarded,
        doors: Doors {
            socks5: Some(port),
            ..Doors::default()
        },
    })
}

fn dante(_lab: &Lab, folder: &Path) -> anyhow::Result<Launch> {
    let port = free_port()?;
    let path = folder.join("danted.conf");
    let users = if rustix::process::getuid().is_root() {
        "user.privileged: root\nuser.unprivileged: nobody\n"
    } else {
        ""
    };
    let text = format!(
        "errorlog: stderr\ninternal: 127.0.0.1 port = {port}\nexternal: 127.0.0.1\nclientmethod: none\n\
         socksmethod: none\n{users}client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}\n\
         socks pass {{ from: 127.0.0.0/8 to: {HOST} }}\nsocks block {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n"
    );
    fs::write(&path, text)?;
    let mut command = command("danted", folder);
    command.arg("-f").arg(path);
    Ok(Launch {
        command,
        log: Log::File,
        doors: Doors {
            socks5: Some(port),
            ..Doors::default()
        },
    })
}

/// An HTTP proxy whose command ends with the path of its configuration.
fn http_proxy(folder: &Path, file: &str, text: &str, words: &[&str]) -> anyhow::Result<Launch> {
    let port = free_port()?;
    let path = folder.join(file);
    fs::write(&path, text.replace(PORT, &port.to_string()))?;
    let mut command = command(words[0], folder);
    command.args(&words[1..]).arg(path);
    Ok(Launch {
        command,
        log: Log::File,
        doors: Doors {
            http: Some(port),
            ..Doors::default()
        },
    })
}

/// The connections for which the descriptors suffice that this user may have: two each, and some for pipes.
fn max_connections() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit
        .maximum
        .map_or(MAX_CONNECTIONS, |limit| (limit / 3).min(MAX_CONNECTIONS))
}

/// More than any scenario opens.
const MAX_CONNECTIONS: u64 = 8_000;

/// Three free ports.
fn fixed() -> anyhow::Result<Fixed> {
    Ok(Fixed {
        source: free_port()?,
        sink: free_port()?,
        echo: free_port()?,
    })
}
