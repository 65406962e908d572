//! A network-policy proxy for the programs on this machine. It decides which hosts they may talk to.
//!
//! This crate runs the proxy inside your own process, for instance for the commands that your program
//! starts. The installed service is the same package with the feature `service`.
//!
//! ```text
//!  your program                     NetworkProxy
//!  +---------------------+          +-----------------------------------+
//!  | builder, handle     |--------->| settings: lists, mode, hooks      |
//!  | decider             |<---------| asks about hosts on neither list  |
//!  | observer            |<---------| reports each refusal              |
//!  +---------------------+          |                                   |
//!  | child processes     |--------->| HTTP and SOCKS5 on 127.0.0.1      |----> upstreams, DNS
//!  |  with HTTP_PROXY .. |          +-----------------------------------+
//!  +---------------------+
//! ```
//!
//! # Getting started
//!
//! Depend on this package with `default-features = false`. Build a proxy, run it, and give its variables
//! to the child processes.
//!
//! ```
//! use std::collections::HashMap;
//!
//! use codex_network_proxy::{NetworkDecision, NetworkPolicyRequest, NetworkProxy};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), codex_network_proxy::NetworkProxyError> {
//! let proxy = NetworkProxy::builder()
//!     .config_toml(
//!         r#"
//!         [network]
//!         allowed_domains = ["example.com"]
//!         denied_domains = ["telemetry.example.com"]
//!         "#,
//!     )
//!     // Called for hosts that are on neither list.
//!     .policy_decider(|request: NetworkPolicyRequest| async move {
//!         match (request.host.as_str(), request.port) {
//!             ("docs.example.org", 443) => NetworkDecision::Allow,
//!             _ => NetworkDecision::deny("not_for_this_task"),
//!         }
//!     })
//!     .build()
//!     .await?;
//! let handle = proxy.run().await?;
//!
//! let mut environment: HashMap<String, String> = std::env::vars().collect();
//! handle.apply_to_env(&mut environment);
//! assert!(environment["HTTPS_PROXY"].starts_with("http://127.0.0.1:"));
//! // Start commands with that environment. Then look at their refusals.
//! for refusal in handle.blocked() {
//!     eprintln!("{}: {}", refusal.host, refusal.reason);
//! }
//!
//! handle.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! The folder `examples` has whole programs: `embed`, `decider` and `reload`.
//!
//! # Listeners
//!
//! Each listener is a free port of 127.0.0.1. It is bound in [`build`](NetworkProxyBuilder::build) and
//! served in [`run`](NetworkProxy::run), so one process can have any number of proxies.
//! [`managed_by_codex(false)`](NetworkProxyBuilder::managed_by_codex) uses configured ports instead.
//! [`run_http_proxy_with_std_listener`] and [`run_socks5_with_std_listener`] serve one listener that is
//! already bound. With `enabled = false` the listeners are open and refuse everything.
//!
//! The admin API exists only after [`admin_addr`](NetworkProxyBuilder::admin_addr) or
//! [`admin_listener`](NetworkProxyBuilder::admin_listener). It asks for no credentials, so commands that
//! reach loopback can change the mode unless the settings have `[daemon.admin] read_only = true`.
//! `POST /reload` reads the files of the proxy's [`Sources`] again. It is answered with 409 if there are
//! none, or if the program has put other settings in force.
//!
//! # Deciders and records
//!
//! A [decider](NetworkPolicyDecider) may allow hosts that are not on the allow list. It cannot override
//! the deny list, the refusal of local and private addresses, hooks or the mode. A name that it allows is
//! looked up, and its addresses are judged. It has 10 seconds
//! ([`decider_timeout`](NetworkProxyBuilder::decider_timeout)). If it takes longer or panics, the request
//! is refused. It is called for each request inside intercepted TLS, and for UDP once for each
//! destination. [`NetworkDecision::Ask`] refuses for now, with `ask` in the answer and the record. A
//! tunnel that a decider allowed stays open across reloads until the settings deny its host.
//!
//! Audit events and flows go to `tracing`, under the targets `codex_otel.network_proxy` and
//! `codex_network_proxy.flow`. Both have the fields of [`NetworkProxyAuditMetadata`].
//!
//! # Settings
//!
//! [`replace`](NetworkProxyHandle::replace), [`replace_toml`](NetworkProxyHandle::replace_toml) and
//! [`reload`](NetworkProxyHandle::reload) put all of the new settings in force, or none. The machine's
//! `requirements.toml` bounds a proxy only if its [`Sources`] include it, as `Sources::system()` and
//! `Sources::file()` do, or any with `with_requirements_under("/")`.
//!
//! Changed name servers and a changed hosts file are noticed within five seconds. Root certificates are
//! read once for the life of the process, since child processes get a bundle of them.
//!
//! # TLS interception
//!
//! The CA is in memory and ends with the proxy. After two thirds of its year, the next change of the
//! settings replaces it. [`ca_certificate_pem`](NetworkProxyHandle::ca_certificate_pem) returns the
//! certificate. With [`bundle_directory`](NetworkProxyBuilder::bundle_directory) the proxy writes a bundle
//! of it and the system's roots, and [`apply_to_env`](NetworkProxyHandle::apply_to_env) names it to child
//! processes. If the environment of a child already names certificates (`SSL_CERT_FILE`,
//! `NODE_EXTRA_CA_CERTS` and others), the child gets a bundle of its own that includes them. `ca_cert_path`
//! and `ca_key_path` are errors here.
//!
//! # Credentials
//!
//! With [`credentials`](NetworkProxyBuilder::credentials), programs work with keys that they never hold. Each gets a
//! dummy, and the proxy puts the real value into requests to the places where it belongs.
//! [`still_brokered`] says which variables of an environment still hold dummies.
//!
//! ```
//! use std::collections::HashMap;
//!
//! use codex_network_proxy::{NetworkProxy, still_brokered};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), codex_network_proxy::NetworkProxyError> {
//! # let key = "sk-proj-0123456789abcdefABCDEF0123456789abcdef";
//! # let environment = HashMap::from([("OPENAI_API_KEY".to_owned(), key.to_owned())]);
//! // `environment` is `std::env::vars()`, and OPENAI_API_KEY is set.
//! let proxy = NetworkProxy::builder()
//!     .config_toml(
//!         r#"
//!         [network]
//!         allowed_domains = ["api.openai.com"]
//!         credential_broker = true
//!         "#,
//!     )
//!     .credentials(environment.clone())
//!     .build()
//!     .await?;
//! let handle = proxy.run().await?;
//!
//! let mut child = environment.clone();
//! handle.apply_to_env(&mut child);
//! assert!(child["OPENAI_API_KEY"].starts_with("sk-proj-masked"));
//! assert_eq!(still_brokered(&child), ["OPENAI_API_KEY"]);
//! # handle.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! The environment of a child has two markers: [`BROKER_ACTIVE_VARIABLE`], which is `1`, and
//! [`BROKERED_CREDENTIALS_VARIABLE`], a JSON list of variables and their dummies. The child may change them.
//!
//! # Not in a library
//!
//! There is no control socket and no sandbox, since the process belongs to your program. The CA's key is
//! in the memory of your process.
//!
//! # Features
//!
//! - `service` (default): the program `codex-network-proxy` with its three roles, the control socket and
//!   its logging. A program that embeds the proxy does not need it.

// The modules:
// - `embed`: the proxy inside another program's process.
// - `admin`: the admin HTTP API, for the worker and for an embedded proxy.
// - `permitted_callers`: the permitted callers of the control socket, by id.
// - `args`: the command line.
// - `ca`: the CA for interception, its files, and its public facts.
// - `check`: checks a configuration without using it.
// - `init`: makes a CA in files.
// - `loader`: checks the configuration for the monitor, and ends.
// - `logging`: where records and messages are written.
// - `manual`: man pages and shell completions.
// - `memory`: protects the roles' memory from other processes.
// - `monitor`: keeps the service's privilege and sockets, and starts the other two roles.
// - `notify`: messages to the service manager.
// - `observation`: the state of the proxy, for those who look from outside.
// - `opaque`: bytes that the loader writes for the worker.
// - `privsep`: the messages between monitor, loader and worker.
// - `problems`: the problems of a configuration, for the callers of a reload.
// - `program`: runs the command line.
// - `sequence`: the numbers of refusals across restarts.
// - `state`: the state directory.
// - `watched`: the paths of the system's files, to notice that one of them has changed.
// - `worker`: the running proxy, confined.

mod admin;
#[cfg(feature = "service")]
mod args;
#[cfg_attr(
    not(feature = "service"),
    expect(
        dead_code,
        unused_imports,
        reason = "the service uses a CA in ways that a library does not"
    )
)]
mod ca;
#[cfg(feature = "service")]
mod changes;
#[cfg(feature = "service")]
mod check;
mod embed;
#[cfg(feature = "service")]
mod init;
#[cfg(feature = "service")]
mod loader;
#[cfg(feature = "service")]
mod logging;
#[cfg(feature = "service")]
mod memory;
#[cfg(feature = "service")]
mod monitor;
#[cfg(feature = "service")]
mod notify;
mod observation;
#[cfg(feature = "service")]
mod opaque;
#[cfg(feature = "service")]
mod permitted_callers;
#[cfg(feature = "service")]
mod privsep;
#[cfg(feature = "service")]
mod problems;
#[cfg(feature = "service")]
mod program;
#[cfg(feature = "service")]
mod sequence;
#[cfg(feature = "service")]
mod state;
#[cfg(feature = "service")]
mod trusted_paths;
#[cfg_attr(
    not(feature = "service"),
    expect(
        dead_code,
        reason = "the service watches in ways that a library does not"
    )
)]
mod watched;
#[cfg(feature = "service")]
mod worker;

#[cfg(all(fuzzing, feature = "service"))]
pub mod fuzzing;

/// Reading configurations, and the types of [`Settings`].
pub use codex_network_config as config;
pub use codex_network_config::{
    BROKER_ACTIVE_VARIABLE, BROKERED_CREDENTIALS_VARIABLE, BrokeredVariable, CredentialProvider,
    Diagnostics, Settings, Sources, UpstreamProxies, Widening, brokered_variables,
    built_in_providers, still_brokered,
};
pub use codex_network_engine::{
    ApprovalError, AuditMetadata as NetworkProxyAuditMetadata, BlockedEntry as BlockedRequest,
    ChildCredentials, ChildEnvironment, Counters, CredentialInfo, Disconnect, ExecutionContext,
    GrantInfo, GrantPorts, GrantRequest, GrantScope, InterceptionError, KeyError, NetworkDecision,
    NetworkPolicyDecider, NetworkPolicyRequest, QuestionInfo, QuestionState, ResolverSetupError,
    SetupError,
};
/// The policy among the [`Settings`].
pub use codex_network_policy as policy;
pub use codex_network_policy::{Mode as NetworkMode, Protocol as NetworkProtocol};
pub use embed::{
    BlockedRequestObserver, NetworkProxy, NetworkProxyBuilder, NetworkProxyError,
    NetworkProxyHandle, Questions, run_http_proxy_with_std_listener, run_socks5_with_std_listener,
};
pub use futures_util::future::BoxFuture;
#[cfg(feature = "service")]
#[doc(hidden)]
pub use {memory::ProgramAllocator, program::main};

/// Runs the README's examples.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
