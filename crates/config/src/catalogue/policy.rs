//! The keys of a dialect's table (SPEC C2, C3).

use codex_network_policy::Interception;
use serde_json::json;

use super::field::{field, special};
use super::row::{Bound, Effect, Key, KeyRow, SettingField, Spelling, TopTable, ValueKind};
use super::show;
use crate::settings::Reach;

const DIALECTS: &[TopTable] = &[TopTable::NetworkProxy, TopTable::Network, TopTable::Profile];

/// In the first dialect, the table `policy` holds the lists.
const fn in_policy(path: &'static str) -> [Spelling; 2] {
    [
        Spelling::at(&[TopTable::NetworkProxy], path),
        Spelling::own(&[TopTable::Network, TopTable::Profile]),
    ]
}

/// In these tables under its name, and in the first dialect also here.
const fn also_at(tables: &'static [TopTable], path: &'static str) -> [Spelling; 2] {
    [
        Spelling::own(tables),
        Spelling::at(&[TopTable::NetworkProxy], path),
    ]
}

/// The dialects, and the table that is laid over one.
const WITH_FEATURES: &[TopTable] = &[
    TopTable::NetworkProxy,
    TopTable::Network,
    TopTable::Profile,
    TopTable::Features,
];

const MAPS: &[Spelling] = &[Spelling::own(&[TopTable::Profile, TopTable::Features])];

pub(super) static ROWS: &[KeyRow] = &[
    KeyRow::feature(
        Key::ENABLED,
        ValueKind::Flag(SettingField {
            set: |draft, on| draft.policy.enabled = on,
            show: |now| json!(now.policy.is_enabled()),
        }),
    )
    .bound(Bound::Only(false))
    .about(
        "With false nothing is bound, or bound listeners answer that the proxy is off; a reload can change it.",
    ),
    KeyRow::feature(
        Key::MODE,
        special!("\"full\" | \"limited\"", |now| json!(now.policy.mode().as_str())),
    )
    .bound(Bound::Special(
        "\"limited\"",
        "No configuration may set full, and full mode cannot be set at run time.",
    ))
    .about(
        "Limited permits only requests that read: GET, HEAD and OPTIONS without content, in plain HTTP and inside TLS, which is intercepted for that.",
    ),
    KeyRow::policy(
        Key::ENFORCEMENT,
        special!("\"enforce\" | \"report\"", |now| {
            json!(now.policy.enforcement().as_str())
        }),
    )
    .bound(Bound::Special(
        "\"enforce\"",
        "No configuration may set report.",
    ))
    .about(
        "With report, hosts that are merely not allowed are let through, and recorded as hosts that would be refused (`would_deny`). Deny entries, local addresses, mode and hooks stay enforced. It is for bringing an allow list to a machine that has none.",
    ),
    KeyRow::feature(
        Key::PROXY_URL,
        special!("address", |now| json!(format!("http://{}", now.listen.http))),
    )
    .about("Where the HTTP proxy listens, if no socket unit does."),
    KeyRow::feature(
        Key::SOCKS_URL,
        special!("address", |now| {
            json!(now.listen.socks5.map(|address| format!("socks5h://{address}")))
        }),
    )
    .about("Where the SOCKS5 proxy listens, if no socket unit does."),
    KeyRow::policy(
        Key::ADMIN_URL,
        special!("address", |now| {
            json!(now.listen.admin.map(|address| format!("http://{address}")))
        }),
    )
    .about("Where the admin API listens, if no socket unit does."),
    KeyRow::feature(
        Key("enable_socks5"),
        ValueKind::Flag(SettingField {
            set: |draft, on| draft.socks5 = on,
            show: |now| json!(now.listen.socks5.is_some()),
        }),
    )
    .about("Whether there is a SOCKS5 proxy."),
    KeyRow::feature(Key("enable_socks5_udp"), ValueKind::Flag(field!(socks5_udp)))
        .about("Whether the SOCKS5 proxy carries UDP."),
    KeyRow::feature(
        Key("allow_upstream_proxy"),
        ValueKind::Flag(field!(allow_upstream_proxy)),
    )
    .bound(Bound::Only(false))
    .about(
        "Whether allowed traffic goes through the proxies that HTTP_PROXY and related variables of the daemon's own environment name.",
    ),
    KeyRow::policy(
        Key("dangerously_allow_non_loopback_proxy"),
        ValueKind::Flag(SettingField {
            set: |draft, on| draft.non_loopback_proxy = on,
            show: |now| json!(now.settings.listen.proxy_reach == Reach::Anywhere),
        }),
    )
    .spelled(&also_at(
        WITH_FEATURES,
        "dangerously_allow_non_loopback",
    ))
    .bound(Bound::Only(false))
    .hidden()
    .about(
        "Without it a proxy on an address that other machines can reach is moved to 127.0.0.1.",
    ),
    KeyRow::policy(
        Key("dangerously_allow_non_loopback_admin"),
        ValueKind::Flag(SettingField {
            set: |draft, on| draft.non_loopback_admin = on,
            show: |now| json!(now.settings.listen.admin_reach == Reach::Anywhere),
        }),
    )
    .bound(Bound::Only(false))
    .hidden()
    .about("Without it an admin API on an address that other machines can reach is moved to 127.0.0.1."),
    KeyRow::policy(
        Key::ALLOW_LOCAL_BINDING,
        ValueKind::Flag(SettingField {
            set: |draft, on| draft.policy.allow_local_binding = on,
            show: |now| json!(now.policy.allows_local_binding()),
        }),
    )
    .spelled(&also_at(WITH_FEATURES, "policy.allow_local_binding"))
    .bound(Bound::Only(false))
    .about(
        "Allowed hosts may be, or resolve to, local and private addresses, those of this machine included.",
    ),
    KeyRow::policy(
        Key::ALLOWED_DOMAINS,
        special!("list of patterns", |now| show::patterns(now.policy.allowed())),
    )
    .spelled(&in_policy("policy.allowed_domains"))
    .bound(Bound::Special(
        "list of patterns",
        "Are added to those of the configuration.",
    ))
    .about("The hosts that may be reached."),
    KeyRow::policy(
        Key::DENIED_DOMAINS,
        special!("list of patterns", |now| show::patterns(now.policy.denied())),
    )
    .spelled(&in_policy("policy.denied_domains"))
    .bound(Bound::Special(
        "list of patterns",
        "Are added to those of the configuration.",
    ))
    .about("The hosts that may not be reached, even if they are allowed."),
    KeyRow::policy(
        Key::DOMAINS,
        special!("table of patterns and \"allow\" or \"deny\"", |_| json!({})),
    )
    .spelled(MAPS)
    .bound(Bound::Special(
        "table of patterns and \"allow\" or \"deny\"",
        "Both lists in one table, in place of them.",
    ))
    .hidden()
    .sets(&["allowed_domains", "denied_domains"])
    .about("Both lists in one table."),
    KeyRow::policy(
        Key::PRESETS,
        special!("list of presets", |now| json!(now.settings.presets)),
    )
    .by_default("[]")
    .about(
        "Ready allow lists, by name: the hosts of a service are added to those that may be reached. `proxyctl presets` shows them.",
    ),
    KeyRow::policy(
        Key::ALLOW_UNIX_SOCKETS,
        special!("list of paths", |now| json!(now.settings.unix_sockets.allowed)),
    )
    .spelled(&also_at(DIALECTS, "policy.allow_unix_sockets"))
    .effect(Effect::MacosOnly)
    .about("The unix sockets that requests may name. Only macOS serves them."),
    KeyRow::policy(
        Key::UNIX_SOCKETS,
        special!("table of paths and \"allow\" or \"deny\"", |now| {
            json!(now.settings.unix_sockets.denied)
        }),
    )
    .spelled(MAPS)
    .by_default("{}")
    .bound(Bound::Special(
        "list of paths, or table of paths and \"allow\" or \"deny\"",
        "No configuration may list others.",
    ))
    .effect(Effect::MacosOnly)
    .shown_as("denied_unix_sockets")
    .sets(&["allow_unix_sockets"])
    .about("The same as a table. A denied socket may not be reached, even if all are allowed."),
    KeyRow::feature(
        Key::ALLOW_ALL_UNIX_SOCKETS,
        ValueKind::Flag(field!(unix_sockets.allow_all)),
    )
    .bound(Bound::Only(false))
    .effect(Effect::MacosOnly)
    .about("Requests may name every unix socket. Only macOS serves them."),
    KeyRow::feature(Key::CREDENTIAL_BROKER, ValueKind::Flag(field!(credential_broker)))
        .about(
            "Whether programs in sessions get dummies for known credentials (`GH_TOKEN`, `OPENAI_API_KEY` and related variables, and those of `credentials`). The real values go only to the hosts where they belong, inside TLS that the proxy intercepts.",
        ),
    KeyRow::policy(
        Key::PLAINTEXT_INJECTION,
        ValueKind::Flag(field!(plaintext_credential_injection)),
    )
    .bound(Bound::Only(false))
    .about(
        "Whether credentials may be injected into plain HTTP, for destinations that begin with `http://`.",
    ),
    KeyRow::feature(
        Key::CREDENTIALS,
        special!("table of tables", |now| {
            show::credentials(&now.settings.credential_providers)
        }),
    )
    .by_default("{}")
    .about(
        "Further credentials, and changes of the built-in ones (`github`, `github-enterprise`, `openai`): `credentials.NAME`. They count with `credential_broker = true`.",
    ),
    KeyRow::policy(
        Key::MANAGED_ALLOWED_DOMAINS_ONLY,
        special!("boolean", |now| json!(now.settings.managed.allowed_domains_only)),
    )
    .spelled(&[])
    .hidden()
    .bound(Bound::Special(
        "boolean",
        "With true, the allow entries of the configuration are ignored, and the resolver is the system's unless these requirements name another.",
    )),
    KeyRow::policy(
        Key::HTTP_PORT,
        special!("port", |now| json!(now.listen.http.port())),
    )
    .spelled(&[])
    .hidden()
    .bound(Bound::Special(
        "integer from 1 to 65535",
        "The only port that a configuration may give the HTTP proxy, and its port without `proxy_url`.",
    )),
    KeyRow::policy(
        Key::SOCKS_PORT,
        special!("port", |now| json!(now.listen.socks5.map(|address| address.port()))),
    )
    .spelled(&[])
    .hidden()
    .bound(Bound::Special(
        "integer from 1 to 65535",
        "The same of the SOCKS5 proxy.",
    )),
    KeyRow::policy(
        Key::MITM,
        ValueKind::Flag(SettingField {
            set: |draft, on| {
                draft.policy.interception = if on {
                    Interception::Automatic
                } else {
                    Interception::Forbidden
                };
            },
            show: |now| json!(now.settings.policy.interception() == Interception::Automatic),
        }),
    )
    .spelled(&[Spelling::at(DIALECTS, "mitm"), Spelling::at(DIALECTS, "mitm.enabled")])
    .by_default("unset")
    .about(
        "False forbids TLS interception; requests that need it are refused then, and no credential is put in. Unset or true, TLS is intercepted where limited mode, a hook or a credential needs it, and nowhere else.",
    ),
    KeyRow::policy(Key("mitm.inspect"), ValueKind::Flag(field!(mitm.inspect)))
        .about("Whether the sizes of bodies are logged."),
    KeyRow::policy(
        Key("mitm.max_body_bytes"),
        ValueKind::Integer(0, 1 << 30, field!(mitm.max_body_bytes)),
    )
    .about("How many bytes of a body are counted for `inspect`."),
    KeyRow::policy(
        Key::CA_CERT_PATH,
        special!("path", |now| {
            json!(now.settings.mitm.ca_paths.as_ref().map(|ca| &ca.certificate))
        }),
    )
    .about("The CA's certificate as PEM. Relative paths are below the file's directory."),
    KeyRow::policy(
        Key::CA_KEY_PATH,
        special!("path", |now| {
            json!(now.settings.mitm.ca_paths.as_ref().map(|ca| &ca.key))
        }),
    )
    .about(
        "The CA's private key: PKCS#8, P-256, mode 0600. Give both files or neither. If neither file exists, the CA is made at the start. Without these keys the CA is the one that `codex-network-proxy init` made, or is made at each start.",
    ),
    KeyRow::policy(
        Key::HOOKS,
        special!("table of tables", |now| show::hooks(&now.settings.mitm)),
    )
    .about("Which requests may be made to a host: `mitm.hooks.NAME`."),
    KeyRow::policy(
        Key::ACTIONS,
        special!("table of tables", |now| show::actions(&now.settings.mitm)),
    )
    .about("How the proxy changes such requests: `mitm.actions.NAME`."),
];
