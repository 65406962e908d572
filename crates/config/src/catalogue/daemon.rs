//! The keys of `[daemon]` (SPEC C5).

use serde_json::json;

use super::field::{count, duration, either, field, principals, special};
use super::row::{Bound, Key, KeyRow, SettingField, ValueKind, ZeroDuration};
use super::show;
use crate::settings::{AdminAccess, AdminView, LogFlows, LogFormat, OtlpProtocol};

pub(super) static ROWS: &[KeyRow] = &[
    KeyRow::daemon(Key("daemon.user"), ValueKind::Text(field!(daemon.user)))
        .by_default("\"codex-network-proxy\", else \"nobody\"")
        .bound(Bound::Exact)
        .about(
            "The user that the worker becomes when root starts the proxy. Other services may share `nobody`: the log warns about it.",
        ),
    KeyRow::daemon(Key("daemon.group"), ValueKind::Text(field!(daemon.group)))
        .by_default("the user's own")
        .bound(Bound::Exact)
        .about("The group that the worker becomes."),
    KeyRow::daemon(
        Key::SANDBOX,
        special!("\"try\" | \"require\" | \"off\"", |now| {
            json!(now.settings.daemon.sandbox.as_str())
        }),
    )
    .bound(Bound::Special(
        "\"require\" or \"try\"",
        "No configuration may set a weaker value.",
    ))
    .hidden()
    .about(
        "How the worker confines itself. Try: with everything that the kernel supports. Require: fully, or it does not run. Off: not at all.",
    ),
    KeyRow::daemon(Key("daemon.state_dir"), ValueKind::Path(field!(daemon.state_dir)))
        .by_default("/var/lib/codex-network-proxy")
        .about("Where the CA is kept."),
    KeyRow::daemon(Key("daemon.log"), ValueKind::Text(field!(daemon.log)))
        .bound(Bound::Exact)
        .about("A level, or a filter as in \"warn,codex_network_engine=debug\"."),
    KeyRow::daemon(
        Key("daemon.log_format"),
        ValueKind::Word(
            LogFormat::WORDS,
            SettingField {
                set: |draft, word| {
                    draft.settings.daemon.log_format = LogFormat::of(word).unwrap_or_default();
                },
                show: |now| json!(now.settings.daemon.log_format.as_str()),
            },
        ),
    )
    .about("Auto is the journal under systemd, else text."),
    KeyRow::daemon(
        Key("daemon.log_flows"),
        either!(daemon.log_flows, LogFlows::All, LogFlows::Failures),
    )
    .about(
        "Log the end of every permitted request, tunnel and destination of a UDP association at level info, with its outcome, bytes and duration. Otherwise only failures are logged at that level, and the others at level debug.",
    ),
    KeyRow::daemon(
        Key("daemon.control.socket"),
        ValueKind::Path(field!(daemon.control.socket)),
    )
    .by_default("/run/codex-network-proxy/control.sock")
    .about("The control socket, if no socket unit makes it."),
    KeyRow::daemon(
        Key("daemon.control.administrators"),
        principals!(daemon.control.administrators),
    )
    .about(
        "Users, and groups with @ in front, who may do everything that root may. A caller is in a group if the user database says so, or if its process is. Only the group codex-network-proxy can connect to the socket that systemd makes, so they must be in it too (`usermod -aG codex-network-proxy NAME`).",
    ),
    KeyRow::daemon(
        Key("daemon.control.observers"),
        principals!(daemon.control.observers),
    )
    .about("Users and groups who may read everything and change nothing."),
    KeyRow::daemon(
        Key("daemon.control.users"),
        principals!(daemon.control.users),
    )
    .about(
        "Users and groups who may open sessions (`proxyctl run`), see and end their own, and see what was refused in them. Administrators may too; observers only if they are listed here. As for administrators, the group of the socket that systemd makes decides who can connect.",
    ),
    KeyRow::daemon(
        Key("daemon.admin.enabled"),
        ValueKind::Flag(field!(daemon.admin.enabled)),
    )
    .bound(Bound::Only(false))
    .about("Whether there is an admin API."),
    KeyRow::daemon(
        Key("daemon.admin.read_only"),
        either!(
            daemon.admin.access,
            AdminAccess::ReadOnly,
            AdminAccess::ReadWrite
        ),
    )
    .bound(Bound::Only(true))
    .about(
        "Whether the admin API refuses changes, and draining the record of refusals. The packages ship a configuration that sets true.",
    ),
    KeyRow::daemon(
        Key("daemon.admin.show_config"),
        either!(daemon.admin.config, AdminView::Shown, AdminView::Hidden),
    )
    .about(
        "Whether the admin API shows the settings in force (`/config`). `proxyctl config` always does, to those who may use it.",
    ),
    KeyRow::daemon(
        Key("daemon.admin.show_patterns"),
        either!(daemon.admin.patterns, AdminView::Shown, AdminView::Hidden),
    )
    .about("Whether the admin API shows the lists of hosts (`/patterns`). `proxyctl patterns` always does."),
    KeyRow::daemon(
        Key("daemon.admin.show_sessions"),
        either!(daemon.admin.sessions, AdminView::Shown, AdminView::Hidden),
    )
    .about(
        "Whether the admin API shows the sessions of all users to every local program: user, command and session on the page, and user and session of each refusal. `proxyctl sessions` shows each caller those that it may see.",
    ),
    KeyRow::daemon(
        Key::NAMESERVERS,
        special!("list of addresses", |now| {
            json!(now.settings.daemon.resolver.nameservers)
        }),
    )
    .by_default("the system's")
    .bound(Bound::Special(
        "list of addresses",
        "No configuration may list others. An empty list permits only the system's.",
    ))
    .about(
        "The servers that look names up, in this order; the default port is 53. By default they are those of `/etc/resolv.conf`; a change of the file is in force within about a second. If the file names none, lookups fail; 127.0.0.1 is not assumed. The next one is used when the previous one fails or does not answer in time. A server that does not answer at all is used last for a while.",
    ),
    KeyRow::daemon(
        Key("daemon.resolver.timeout"),
        ValueKind::Duration(ZeroDuration::Refused, duration!(daemon.resolver.timeout)),
    )
    .about("How long a lookup may take."),
    KeyRow::daemon(
        Key::HOSTS_FILE,
        special!("path", |now| json!(now.settings.daemon.resolver.hosts_file)),
    )
    .by_default("/etc/hosts")
    .bound(Bound::Special("path", "No configuration may name another."))
    .about(
        "A file of names that are not looked up (hosts(5)). A change of the file is in force within about a second.",
    ),
    KeyRow::daemon(
        Key("daemon.limits.max_connections"),
        ValueKind::Integer(1, 1_000_000, count!(daemon.limits.max_connections)),
    )
    .about(
        "How many connections clients may have at once. Further clients wait. Users share the connections equally: a user below its share is let in at once, and the longest idle connection of the user with most connections ends for it.",
    ),
    KeyRow::daemon(
        Key("daemon.limits.max_header_bytes"),
        ValueKind::Integer(1024, 1 << 20, count!(daemon.limits.max_header_bytes)),
    )
    .about("The largest header section of a request or response, in bytes."),
    KeyRow::daemon(
        Key("daemon.limits.header_timeout"),
        ValueKind::Duration(ZeroDuration::Refused, duration!(daemon.limits.header_timeout)),
    )
    .about(
        "How long a client may take to send a header section. At `max_connections`, a connection that has been idle for this long may be ended for another client.",
    ),
    KeyRow::daemon(
        Key("daemon.limits.connect_timeout"),
        ValueKind::Duration(ZeroDuration::Refused, duration!(daemon.limits.connect_timeout)),
    )
    .about("How long a connection to a server may take."),
    KeyRow::daemon(
        Key("daemon.limits.idle_timeout"),
        ValueKind::Duration(ZeroDuration::Refused, duration!(daemon.limits.idle_timeout)),
    )
    .about("Connections that are silent for longer are ended."),
    KeyRow::daemon(
        Key("daemon.limits.drain_timeout"),
        ValueKind::Duration(ZeroDuration::Allowed, duration!(daemon.limits.drain_timeout)),
    )
    .about("How long open connections may go on when the proxy is stopped or restarted."),
    KeyRow::daemon(
        Key("daemon.limits.blocked_buffer"),
        ValueKind::Integer(1, 100_000, count!(daemon.limits.blocked_buffer)),
    )
    .about("How many refusals are remembered."),
    KeyRow::daemon(
        Key("daemon.sessions.max"),
        ValueKind::Integer(0, 65_536, count!(daemon.sessions.max)),
    )
    .about("How many sessions there may be at once. With 0 no session can be opened."),
    KeyRow::daemon(
        Key("daemon.sessions.max_per_user"),
        ValueKind::Integer(0, 65_536, count!(daemon.sessions.max_per_user)),
    )
    .about("How many sessions of one user there may be at once."),
    KeyRow::daemon(
        Key("daemon.sessions.max_connections"),
        ValueKind::Integer(1, 1_000_000, count!(daemon.sessions.max_connections)),
    )
    .about("How many connections one session may have at once. Further ones are refused."),
    KeyRow::daemon(
        Key::SESSION_PROFILES,
        special!("table of profiles and lists of users and groups", |now| {
            show::profile_users(now.settings.daemon.sessions.profiles.as_ref())
        }),
    )
    .by_default("unset")
    .about(
        "Who may choose which permission profile for a session, as in `build = [\"ci\", \"@developers\"]`; `[\"*\"]` stands for everyone who may open sessions. Without this table they may choose every profile. With it, a profile that it does not name is for administrators, who may choose all.",
    ),
    KeyRow::daemon(
        Key("daemon.approvals.enabled"),
        ValueKind::Flag(field!(daemon.approvals.enabled)),
    )
    .bound(Bound::Only(false))
    .about(
        "Whether a request to a host that is merely not allowed becomes a question, which `proxyctl approvals` shows and `proxyctl approve` answers. Hosts on the deny list, local addresses, the mode and hooks are never asked about. Nothing is asked while no `proxyctl approvals --follow`, `proxyctl watch` or `proxyctl run --ask` runs.",
    ),
    KeyRow::daemon(
        Key("daemon.approvals.own"),
        ValueKind::Flag(field!(daemon.approvals.own)),
    )
    .bound(Bound::Only(false))
    .about(
        "Whether users may answer the questions of their own sessions. A program with `--isolation=env` can answer too, as its user can; a program in a jail cannot. Administrators may answer all questions.",
    ),
    KeyRow::daemon(
        Key("daemon.approvals.hold"),
        ValueKind::Duration(ZeroDuration::Allowed, duration!(daemon.approvals.hold)),
    )
    .about("How long a request waits for an answer. Then it is refused, and a later request finds the answer."),
    KeyRow::daemon(
        Key("daemon.approvals.expire"),
        ValueKind::Duration(ZeroDuration::Refused, duration!(daemon.approvals.expire)),
    )
    .about(
        "How long a question stays open. A denial counts for this long too, if the client has no session.",
    ),
    KeyRow::daemon(
        Key("daemon.approvals.max_pending"),
        ValueKind::Integer(1, 1024, count!(daemon.approvals.max_pending)),
    )
    .about(
        "How many questions may be open at once. One session, or one user, may have a quarter of them.",
    ),
    KeyRow::daemon(
        Key::OTLP,
        special!("URL", |now| {
            let collector = now.settings.daemon.telemetry.collector.as_ref();
            json!(collector.map(ToString::to_string))
        }),
    )
    .by_default("unset")
    .about(
        "The OpenTelemetry collector that gets audit events, as in \"http://collector:4318\". With `http/protobuf`, `/v1/logs` is appended. The default port is that of the scheme. No client can reach this host and port through the proxy.",
    ),
    KeyRow::daemon(
        Key::OTLP_PROTOCOL,
        ValueKind::Word(
            OtlpProtocol::WORDS,
            SettingField {
                set: |draft, word| {
                    draft.settings.daemon.telemetry.protocol = OtlpProtocol::of(word).unwrap_or_default();
                },
                show: |now| json!(now.settings.daemon.telemetry.protocol.as_str()),
            },
        ),
    )
    .about("The protocol that the collector speaks at this port: 4318 by convention, and 4317 with gRPC."),
    KeyRow::daemon(
        Key::OTLP_HEADERS_FILE,
        special!("path", |now| json!(now.settings.daemon.telemetry.headers_file)),
    )
    .by_default("unset")
    .about(
        "A file of header fields for each request to the collector, a line `name: value` each, as for a token. Only its owner may read it. Reload after a change.",
    ),
    KeyRow::daemon(
        Key::OTLP_CA_FILE,
        special!("path", |now| json!(now.settings.daemon.telemetry.ca_file)),
    )
    .by_default("the system's roots")
    .about(
        "A PEM file of the certificates that the collector is verified against, instead of the roots of the system. At most 64 KiB. Reload after a change.",
    ),
];
