//! Decides which hosts may be reached, and gives the reason.
//!
//! This crate is the decision point of the proxy: plain data in, a [`Decision`] out. The caller
//! passes resolved addresses and the state of the machine and the proxy ([`Facts`]). Records,
//! sockets and time are outside of this crate.
//!
//! Reading order is the order of a decision. A [`Host`] exists only through its parser, and an
//! [`Authority`] adds the port. A [`Pattern`] is one line of a list. A [`DomainSet`] is a list
//! whose lookup time depends only on the host's labels. [`AddressClass`] classifies an address.
//! [`Policy::decide`] applies them to a [`Request`], in the same order for every door. Inside TLS
//! interception [`Hooks`] say, for each host, which requests may be made. Unix sockets have an order
//! and a list of their own: [`Policy::decide_unix_socket`].
//!
//! # Invariants
//!
//! - No I/O, no clock, no async: the crate is `no_std`, so they do not compile.
//! - Only this crate makes decisions. Each has a reason, and a list's verdict names its rule.
//! - Deny wins: no later rule lifts it.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod address;
mod authority;
mod decide;
mod decision;
mod domain_set;
mod enforcement;
mod entry_change;
mod explain;
mod field;
mod hook;
mod host;
mod local_addresses;
mod method;
mod narrowing;
mod pattern;
mod policy;
mod proxy_listeners;
mod refuse;
mod request;
mod rule;
mod session_rules;
mod unix_socket;

pub use address::{AddressClass, SPECIAL_PURPOSE_V4, SPECIAL_PURPOSE_V6, SpecialPurpose};
pub use authority::{Authority, AuthorityError};
pub use decide::{DeciderAnswer, DeciderReason};
pub use decision::{Decision, Handling, Reach, Reason, Source, Verdict};
pub use domain_set::{DomainSet, Listed};
pub use enforcement::Enforcement;
pub use entry_change::EntryChange;
pub use explain::Explanation;
pub use field::{FieldClass, Scrutiny, ends_here, ends_here_in_answers, is_same_field};
pub use hook::{
    Ambiguity, Fields, HeaderNameText, HookId, HookMatch, HookMethod, HookMiss, HookRequest,
    HookSpec, HookVerdict, Hooks, MissedClause, NotAToken, PathAmbiguity, PathPrefix,
    PathPrefixError, ValuePattern, ValuePatternError, WildcardError, query_overrides_method,
    unambiguous_path,
};
pub use host::{Host, HostError, Ipv6Host, Name};
pub use local_addresses::{LocalAddresses, NoLocalAddresses, is_local_address};
pub use method::{Content, Mode, ModeError, defines_content, is_read_only};
pub use narrowing::{Narrowing, NarrowingError};
pub use pattern::{ListKind, Pattern, PatternError};
pub use policy::{Interception, Policy, PolicyError, PolicySpec, Unlisted};
pub use proxy_listeners::{NoProxyListeners, ProxyListeners, Transport, listener_receives};
pub use refuse::TunnelContent;
pub use request::{
    Facts, HostCredentials, HttpHead, InterceptionSupport, Protocol, Request, RequestKind,
};
pub use rule::{ConfigLine, Rule, RuleId, RuleRef};
pub use unix_socket::{
    ListedUnixSocket, RelativePath, UnixSocketList, UnixSocketListener, UnixSocketLists,
    UnixSocketPath, UnixSocketRequest, UnixSocketSupport,
};
