//! Hooks: which requests may be made to a host whose requests are judged one by one inside TLS
//! (SPEC M9, M10).
//!
//! A hook names one host and the methods, paths, query values and fields of the requests that it
//! covers. For a host with hooks, a request that no hook covers is refused, and so is one that could
//! be read in two ways. The first hook that covers a request wins, in the order of
//! the specification. What a hook then changes in the request is not part of this crate. `text`
//! parses the texts of a hook, `glob` matches wildcards, `target` reads requests, and
//! `path` judges their paths.

mod ambiguity;
mod glob;
mod miss;
mod path;
mod query;
mod target;
mod text;

use alloc::string::String;
use alloc::vec::Vec;

pub use ambiguity::Ambiguity;
use hashbrown::HashMap;
pub use miss::{HookMiss, MissedClause};
pub use path::{PathAmbiguity, unambiguous_path};
use query::Presence;
pub use query::query_overrides_method;
use target::Target;
pub use text::{
    HeaderNameText, HookMethod, NotAToken, PathPrefix, PathPrefixError, ValuePattern,
    ValuePatternError, WildcardError,
};

use crate::host::Host;
use crate::rule::ConfigLine;

/// One hook as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookSpec {
    /// Its name in the configuration.
    pub name: String,
    /// The line that it is written on, if that is known.
    pub written_at: Option<ConfigLine>,
    /// The exact host that it covers.
    pub host: Host,
    /// The methods that it covers. `CONNECT` is never among them.
    pub methods: Vec<HookMethod>,
    /// The beginnings of paths that it covers.
    pub path_prefixes: Vec<PathPrefix>,
    /// Names in the query, each with its values. A request must carry each name, and every
    /// occurrence of it must have one of the values.
    pub query: Vec<(String, Vec<ValuePattern>)>,
    /// Fields, each with its values, as for the query. Without values the field must only be
    /// present.
    pub headers: Vec<(HeaderNameText, Vec<ValuePattern>)>,
}

/// A compiled set of hooks. The default has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// In the order in which they are tried.
    hooks: Vec<HookSpec>,
    /// Each host's hooks, in the same order.
    by_host: HashMap<Host, Vec<HookId>>,
}

/// Identifies a hook of one set of [`Hooks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HookId(usize);

/// A request inside TLS interception: the part that hooks judge.
#[derive(Clone, Copy)]
pub struct HookRequest<'a> {
    /// The host of the request.
    pub host: &'a Host,
    /// Its method. Methods are case-sensitive (RFC 9110 section 9.1).
    pub method: &'a str,
    /// The request-target in origin-form, path and query as sent (RFC 9112 section 3.2.1).
    pub target: &'a str,
    /// Its header fields.
    pub fields: &'a dyn Fields,
}

/// The header fields of a request.
pub trait Fields {
    /// Calls `each` with the value of each field of this name, which is in lower case, in order.
    fn for_each_value(&self, name: &str, each: &mut dyn FnMut(&[u8]));
}

/// The verdict of hooks on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookVerdict {
    /// The host has no hooks.
    NotHooked,
    /// This hook covers the request.
    Matched(HookId),
    /// The host has hooks, and none covers the request: it is refused with `mitm_hook_denied`.
    NoMatch,
    /// The same as [`NoMatch`](Self::NoMatch), because the request could be read in more than one
    /// way.
    Ambiguous(Ambiguity),
}

/// A [`HookVerdict`] without the hook: the part of it that decides about the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HookMatch {
    /// The host has no hooks.
    #[default]
    NotHooked,
    /// A hook covers the request.
    Matched,
    /// The host has hooks, and none covers the request.
    Unmatched,
    /// The same as [`Unmatched`](Self::Unmatched), because the request could be read in more than
    /// one way.
    Ambiguous(Ambiguity),
}

impl From<HookVerdict> for HookMatch {
    fn from(verdict: HookVerdict) -> Self {
        match verdict {
            HookVerdict::NotHooked => Self::NotHooked,
            HookVerdict::Matched(_) => Self::Matched,
            HookVerdict::NoMatch => Self::Unmatched,
            HookVerdict::Ambiguous(ambiguity) => Self::Ambiguous(ambiguity),
        }
    }
}

impl HookId {
    /// The hook's number in the order of the specification, from 0.
    pub fn index(self) -> usize {
        self.0
    }
}

impl Hooks {
    /// Compiles hooks. They are tried in this order.
    pub fn compile(specs: Vec<HookSpec>) -> Self {
        let mut by_host: HashMap<Host, Vec<HookId>> = HashMap::new();
        for (index, spec) in specs.iter().enumerate() {
            let ids = by_host.entry(spec.host.clone()).or_default();
            ids.push(HookId(index));
        }
        Self {
            hooks: specs,
            by_host,
        }
    }

    /// Whether a host has hooks.
    pub fn has(&self, host: &Host) -> bool {
        self.by_host.contains_key(host)
    }

    /// The first hook of the host that covers the request.
    ///
    /// No hook covers a path that could be read in two ways ([`PathAmbiguity`]). No hook covers a query
    /// with a name by which servers take another method, unless the hook judges that name. A hook
    /// that looks at queries does not cover one with another [`Ambiguity`]. The cost is
    /// proportional to the request and the hooks of its host, whatever their patterns.
    pub fn judge(&self, request: &HookRequest<'_>) -> HookVerdict {
        let Some(ids) = self.by_host.get(request.host) else {
            return HookVerdict::NotHooked;
        };
        let target = match Target::read(request.target) {
            Ok(target) => target,
            Err(ambiguity) => return HookVerdict::Ambiguous(Ambiguity::Path(ambiguity)),
        };
        let mut refused = HookVerdict::NoMatch;
        for id in ids {
            match self.hooks[id.0].covers(request, &target) {
                Ok(true) => return HookVerdict::Matched(*id),
                Ok(false) => {}
                Err(ambiguity) => refused = HookVerdict::Ambiguous(ambiguity),
            }
        }
        refused
    }

    /// The hook with an id of this set.
    pub fn get(&self, id: HookId) -> Option<&HookSpec> {
        self.hooks.get(id.0)
    }

    /// All hooks, in the order in which they are tried.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (HookId, &HookSpec)> {
        self.hooks
            .iter()
            .enumerate()
            .map(|(index, spec)| (HookId(index), spec))
    }

    /// How many hooks there are.
    pub fn len(&self) -> usize {
        self.hooks.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }
}

impl HookSpec {
    /// Only a hook that covers the rest of the request reports an ambiguity.
    fn covers(&self, request: &HookRequest<'_>, target: &Target<'_>) -> Result<bool, Ambiguity> {
        let covers = self.covers_method(request)
            && self.covers_path(target)
            && self.headers.iter().all(|(name, values)| {
                field_presence(request.fields, name, values) == Presence::Covered
            });
        if !covers {
            return Ok(false);
        }
        target.query.check_overrides(&self.query)?;
        target.query.has(&self.query)
    }

    fn covers_method(&self, request: &HookRequest<'_>) -> bool {
        let covers = |one: &HookMethod| one.as_str() == request.method;
        self.methods.iter().any(covers)
    }

    fn covers_path(&self, target: &Target<'_>) -> bool {
        let covers = |one: &PathPrefix| one.covers(&target.path);
        self.path_prefixes.iter().any(covers)
    }
}

/// Whether a field is present and all of its occurrences have one of the values. The origin may
/// read any occurrence.
fn field_presence(fields: &dyn Fields, name: &HeaderNameText, values: &[ValuePattern]) -> Presence {
    let mut presence = Presence::Missing;
    fields.for_each_value(name.as_str(), &mut |value| {
        let text = core::str::from_utf8(value);
        let is_covered = values.is_empty()
            || text.is_ok_and(|text| values.iter().any(|pattern| pattern.covers(text)));
        presence = presence.and(is_covered);
    });
    presence
}
