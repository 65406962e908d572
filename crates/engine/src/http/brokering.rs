//! The credentials of a session in the requests and answers of its programs: puts real values into the fields
//! that present their dummies, refuses dummies at other places, and scrubs answers (SPEC B8, B11, B12).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use codex_network_config::DestinationScheme;
use codex_network_policy::{is_same_field, query_overrides_method};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use hyper::ext::ReasonPhrase;

use super::Session;
use crate::attempt::Refusal;
use crate::broker::{
    Credential, CurrentScrubber, DummyOwner, DummyRegistry, InjectionError, NO_SESSION,
    RenewableValues, RequestPart, RequestPlace, Scrubber, SearchedContent, Sender,
    SessionCredentials,
};
use crate::content_coding::{ContentCodings, UserWindows};
use crate::enforce::{CredentialRefuser, Permit};
use crate::tls::Wire;
use crate::upstream::{AnswerError, UpstreamError};

/// The detail of a refusal: the part of the request that has the dummy.
const IN_FIELD: &str = "dummy_in_header";
const IN_METHOD: &str = "dummy_in_method";
const IN_TARGET: &str = "dummy_in_url";
const IN_CONTENT: &str = "dummy_in_body";
/// The request lacks a credential that its destination requires.
const MISSING: &str = "credential_missing";
/// The value cannot be written into a field.
const UNWRITABLE: &str = "credential_unwritable";
/// The query may make the origin act on another method, and the methods of the credential are limited.
const METHOD: &str = "method_override";

/// The fields that ask for another charset, and for changes of earlier content or compression (RFC 3229 section 10.5.3),
/// in which no value is found.
const UNSEARCHED_FORMS: [&str; 2] = ["accept-charset", "a-im"];
/// The end of the names of fields that ask for a part of the content: `Range` and `If-Range` (RFC 9110 section 14.2),
/// `Request-Range`, which Apache reads as `Range`, `x-ms-range` of Azure, and others. With them a program could read a
/// value in parts, which are not found.
const RANGE: &str = "range";
/// The fields among these that describe the content of the request, or that of another resource to copy.
const RANGES_OF_REQUESTS: [&str; 2] = ["content-range", "source-range"];
/// The status of an answer with changes of earlier content (RFC 3229 section 10.4.1).
const IM_USED: u16 = 226;

/// Hashes of content with its codings (RFC 1864, RFC 3230, RFC 9530).
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const DIGEST: HeaderName = HeaderName::from_static("digest");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// The work on one request and its answer. The default does nothing.
#[derive(Default)]
pub(super) struct Brokering {
    search: Option<ContentSearch>,
    /// Whether the answer may have real values: at each host that a credential of the session may go to.
    is_scrubbed: bool,
    /// Present if the request has values that can be read again.
    renewable: Option<Box<RenewableRequest>>,
}

/// A request with values that can be read again if the origin refuses them.
struct RenewableRequest {
    values: RenewableValues,
    /// The fields with dummies.
    fields: HeaderMap,
    /// Whether the values were read again for this request.
    is_renewed: AtomicBool,
}

/// Looks for dummies in the content of a request.
#[derive(Clone)]
pub(super) struct ContentSearch {
    place: Arc<SearchPlace>,
    /// The refusal because of the first dummy that was found. It was recorded.
    refusal: Arc<OnceLock<Refusal>>,
}

/// The content of one request that is searched while it passes.
pub(super) struct SearchInHand {
    search: ContentSearch,
    content: SearchedContent,
}

/// The sender and the place of a request, for the time after its head was sent.
struct SearchPlace {
    scheme: DestinationScheme,
    target: PathAndQuery,
    method: Method,
    dummies: Arc<DummyRegistry>,
    refuser: CredentialRefuser,
}

impl SearchPlace {
    fn refuses(&self, owner: &DummyOwner, part: RequestPart) -> bool {
        let session = self.refuser.client().session();
        let usable = self.refuser.generation().usable_credentials(self.scheme);
        let sender = Sender {
            session: Some(session.map_or(NO_SESSION, |session| &session.info().id)),
            credentials: usable.map(Arc::as_ref),
            place: self.request_place(),
        };
        owner.refuses(&sender, part)
    }

    fn request_place(&self) -> RequestPlace<'_> {
        RequestPlace {
            scheme: self.scheme,
            host: &self.refuser.authority().host,
            port: self.refuser.authority().port,
            target: self.target.as_str(),
            method: self.method.as_str(),
        }
    }
}

impl Brokering {
    /// Puts the credentials of the session into the head of a permitted request, and looks for dummies in it.
    ///
    /// # Errors
    ///
    /// The refusal, which was recorded.
    pub(super) fn of(
        session: &Session,
        permit: &Permit,
        wire: Wire,
        parts: &mut http::request::Parts,
        target: &PathAndQuery,
    ) -> Result<Self, Refusal> {
        let dummies = &session.shared.dummies;
        let credentials = permit.generation().credentials();
        if credentials.is_none() && dummies.is_empty() {
            return Ok(Self::default());
        }
        let scheme = wire.scheme();
        let (method, fields) = (&parts.method, &mut parts.headers);
        let authority = permit.authority();
        let place = RequestPlace {
            scheme,
            host: &authority.host,
            port: authority.port,
            target: target.as_str(),
            method: method.as_str(),
        };
        let usable = permit.generation().usable_credentials(scheme);
        let mut renewable = None;
        if let Some(credentials) = usable {
            let before = credentials.are_read(&place).then(|| fields.clone());
            let used = credentials.inject(fields, &place).map_err(|error| {
                let (id, detail) = match &error {
                    InjectionError::Missing(id) => (id, MISSING),
                    InjectionError::Unwritable(id) => (id, UNWRITABLE),
                };
                permit.refuse_credential(id, detail)
            })?;
            let limited = used
                .iter()
                .find(|credential| credential.provider().methods.is_some());
            if let Some(limited) = limited.filter(|_| query_overrides_method(target.as_str())) {
                return Err(permit.refuse_credential(limited.id(), METHOD));
            }
            note(&used, permit, session.shared.recorder().now());
            renewable = before.and_then(|mut before| {
                let values = RenewableValues::of(credentials, &used)?;
                keep_changed(&mut before, fields);
                Some(Box::new(RenewableRequest {
                    values,
                    fields: before,
                    is_renewed: AtomicBool::new(false),
                }))
            });
        }
        let is_scrubbed = permit.generation().is_reached(scheme, authority);
        if is_scrubbed {
            // Values in other codings are not found.
            let identity = HeaderValue::from_static("identity");
            fields.insert(header::ACCEPT_ENCODING, identity);
            remove_unsearched_forms(fields);
        }
        let place = Arc::new(SearchPlace {
            scheme,
            target: target.clone(),
            method: method.clone(),
            dummies: Arc::clone(dummies),
            refuser: permit.credential_refuser(),
        });
        let tripwire = dummies.tripwire();
        for (text, detail) in [(target.as_str(), IN_TARGET), (method.as_str(), IN_METHOD)] {
            let found = tripwire.find(text.as_bytes(), |owner| {
                place.refuses(owner, RequestPart::Target)
            });
            if let Some(owner) = found {
                return Err(permit.refuse_credential(&owner.credential, detail));
            }
        }
        let in_field = fields.values().find_map(|value| {
            tripwire.find(value.as_bytes(), |owner| {
                place.refuses(owner, RequestPart::Field)
            })
        });
        if let Some(owner) = in_field {
            return Err(permit.refuse_credential(&owner.credential, IN_FIELD));
        }
        Ok(Self {
            search: Some(ContentSearch {
                place,
                refusal: Arc::default(),
            }),
            is_scrubbed,
            renewable,
        })
    }

    /// After an origin has refused the values: has them read again, once for each request. Whether there are
    /// other values now, and the settings in force still have the credentials.
    pub(super) async fn gets_other_values(&self, session: &Session) -> bool {
        let (Some(renewable), Some(search)) = (&self.renewable, &self.search) else {
            return false;
        };
        if renewable.is_renewed.swap(true, Ordering::Relaxed) {
            return false;
        }
        let shared = &session.shared;
        let values = &renewable.values;
        let current = shared.live().current();
        let readings = &current.supplied().credentials;
        if !shared.renewals.renew(values, readings).await {
            return false;
        }
        let current = shared.live().current();
        let place = search.place.request_place();
        let usable = current.usable_credentials(place.scheme);
        usable.is_some_and(|usable| usable.keep_bound(values.credentials(), &place))
    }

    /// Puts the values in force into the fields of the same request.
    pub(super) fn renew_fields(&self, session: &Session, fields: &mut HeaderMap) {
        let (Some(renewable), Some(search)) = (&self.renewable, &self.search) else {
            return;
        };
        let mut renewed = renewable.fields.clone();
        let place = search.place.request_place();
        // With an error, the old values stay.
        let Ok(used) = renewable.values.credentials().inject(&mut renewed, &place) else {
            return;
        };
        for credential in used {
            credential.count_use(session.shared.recorder().now());
        }
        for name in renewed.keys() {
            fields.remove(name);
        }
        for (name, value) in &renewed {
            fields.append(name.clone(), value.clone());
        }
    }

    /// Looks for dummies in the content; `None` if there are none to find.
    pub(super) fn search(&self) -> Option<Box<SearchInHand>> {
        let search = self.search.clone()?;
        let content = SearchedContent::new();
        Some(Box::new(SearchInHand { search, content }))
    }

    /// The refusal because of a dummy in the content, which broke the request off.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.search.as_ref()?.refusal.get().cloned()
    }

    /// Finds real values in the content of the answer.
    pub(super) fn scrubber(&self) -> Option<&Arc<CurrentScrubber>> {
        self.scrubbed_credentials().map(|all| all.scrubber())
    }

    /// Counts the content codings that are undone for the user.
    pub(super) fn windows(&self) -> UserWindows {
        let credentials = self.scrubbed_credentials();
        credentials.map_or_else(UserWindows::default, |all| all.windows().clone())
    }

    /// The credentials whose values are scrubbed from the answer.
    fn scrubbed_credentials(&self) -> Option<&Arc<SessionCredentials>> {
        let search = self.search.as_ref().filter(|_| self.is_scrubbed)?;
        search.place.refuser.generation().credentials()
    }

    /// Removes real values from the fields of an answer, interim or final, or of its trailer section.
    pub(super) fn scrub_fields(&self, fields: &mut HeaderMap) {
        if let Some(scrubber) = self.scrubber() {
            scrub_fields(&scrubber.load(), fields);
        }
    }

    /// Prepares the head of an answer for content that is scrubbed. Gives the content codings to undo before.
    ///
    /// # Errors
    ///
    /// Real values may be in the content, and could not be found.
    pub(super) fn prepare(
        &self,
        parts: &mut http::response::Parts,
    ) -> Result<ContentCodings, AnswerError> {
        let Some(scrubber) = self.scrubber() else {
            return Ok(ContentCodings::default());
        };
        let scrubber = &scrubber.load();
        // It is text of the origin's choice.
        parts.extensions.remove::<ReasonPhrase>();
        let codings = ContentCodings::of(&parts.headers);
        scrub_fields(scrubber, &mut parts.headers);
        if !scrubber.preserves_length() {
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        let codings = codings.ok_or(AnswerError::ContentCoding);
        let codings = if is_part(parts) {
            Err(AnswerError::UnaskedPart)
        } else {
            codings
        };
        match &codings {
            // An answer to HEAD may have it. With a value and a guess in the content, its encoded length shows how
            // much of the guess is right.
            Err(_) => {
                parts.headers.remove(header::CONTENT_LENGTH);
            }
            Ok(codings) if !codings.is_identity() => describe_decoded(&mut parts.headers),
            Ok(_) => {}
        }
        codings
    }
}

/// Whether an answer has a part of some content, or changes of it.
fn is_part(parts: &http::response::Parts) -> bool {
    let status = parts.status;
    status == StatusCode::PARTIAL_CONTENT
        || status.as_u16() == IM_USED
        || (status.is_success() && parts.headers.contains_key(header::CONTENT_RANGE))
}

/// Makes the fields of an answer those of its decoded content.
fn describe_decoded(fields: &mut HeaderMap) {
    for name in [
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::ACCEPT_RANGES,
        CONTENT_MD5,
        DIGEST,
        CONTENT_DIGEST,
        REPR_DIGEST,
    ] {
        fields.remove(name);
    }
    // It is another representation of the same resource (RFC 9110 section 8.8.1).
    let strong = fields
        .get(header::ETAG)
        .filter(|tag| tag.as_bytes().starts_with(b"\""));
    let weak = strong.map(|tag| [b"W/", tag.as_bytes()].concat());
    if let Some(weak) = weak.and_then(|tag| HeaderValue::from_bytes(&tag).ok()) {
        fields.insert(header::ETAG, weak);
    }
}

/// Keeps the fields whose values are others now.
fn keep_changed(before: &mut HeaderMap, now: &HeaderMap) {
    let names = before.keys().cloned().collect::<Vec<_>>();
    for name in names {
        if before.get_all(&name).iter().eq(now.get_all(&name)) {
            before.remove(&name);
        }
    }
}

/// Counts the use of credentials, and names them in the records of the request.
fn note(used: &[&Credential], permit: &Permit, now: i64) {
    for credential in used {
        credential.count_use(now);
    }
    match used {
        [] => {}
        [only] => permit.flow().carries(only.id().shared()),
        several => {
            let names: Vec<&str> = several.iter().map(|one| one.id().as_str()).collect();
            permit.flow().carries(names.join(",").into());
        }
    }
}

/// Asks for the whole content as it is, so that values are found in it.
fn remove_unsearched_forms(fields: &mut HeaderMap) {
    let unwanted: Vec<HeaderName> = fields
        .keys()
        .filter(|name| is_unsearched_form(name.as_str()))
        .cloned()
        .collect();
    for name in unwanted {
        fields.remove(name);
    }
}

/// Whether a field of this name, in lower case, asks for content in which values are not found.
fn is_unsearched_form(name: &str) -> bool {
    let mut forms = UNSEARCHED_FORMS.iter();
    if forms.any(|form| is_same_field(name, form)) {
        return true;
    }
    ends_with_words(name, RANGE)
        && !RANGES_OF_REQUESTS
            .iter()
            .any(|range| ends_with_words(name, range))
}

/// Whether a name is these words, or ends with `-` and them. Some origins read `_` as `-`.
fn ends_with_words(name: &str, words: &str) -> bool {
    let Some(front) = name.len().checked_sub(words.len()) else {
        return false;
    };
    let (front, end) = name.as_bytes().split_at(front);
    let read = |&byte: &u8| if byte == b'_' { b'-' } else { byte };
    end.iter().map(read).eq(words.bytes()) && matches!(front.last(), None | Some(b'-' | b'_'))
}

/// Removes real values from fields, and the fields that have one in their names.
pub(super) fn scrub_fields(scrubber: &Arc<Scrubber>, fields: &mut HeaderMap) {
    let unwanted: Vec<HeaderName> = fields
        .keys()
        .filter(|name| scrubber.finds_in_name(name.as_str()))
        .cloned()
        .collect();
    for name in unwanted {
        fields.remove(name);
    }
    for value in fields.values_mut() {
        let Some(clean) = scrubber.scrub(value.as_bytes()) else {
            continue;
        };
        // A dummy is printable ASCII, so this does not fail. An empty field has no value either.
        *value = HeaderValue::from_bytes(&clean).unwrap_or(HeaderValue::from_static(""));
    }
}

impl SearchInHand {
    /// Takes the next piece of content. `true` if it has a dummy because of which the request is refused.
    pub(super) fn finds_in(&mut self, piece: &[u8]) -> bool {
        if self.content.is_complete() {
            return false;
        }
        let place = &self.search.place;
        // The dummies of this moment: a session may have begun since the last piece.
        let tripwire = place.dummies.tripwire();
        let found = self.content.push(&tripwire, piece, |owner| {
            place.refuses(owner, RequestPart::Content)
        });
        self.note(found)
    }

    /// Whether trailer fields have such a dummy.
    pub(super) fn finds_in_trailers(&mut self, trailers: &HeaderMap) -> bool {
        let place = &self.search.place;
        let tripwire = place.dummies.tripwire();
        let found = trailers.values().find_map(|value| {
            let owner = tripwire.find(value.as_bytes(), |owner| {
                place.refuses(owner, RequestPart::Field)
            });
            owner.cloned()
        });
        self.note(found)
    }

    /// Refuses the request because of a dummy that was found. The answer may have begun, so it is recorded here.
    fn note(&self, found: Option<Arc<DummyOwner>>) -> bool {
        let Some(owner) = found else { return false };
        self.search.refusal.get_or_init(|| {
            let refuser = &self.search.place.refuser;
            let refusal = refuser.refuse(&owner.credential, IN_CONTENT);
            let failure = UpstreamError::Refused(Box::new(refusal.clone()));
            refuser.flow().end(failure.ending());
            refusal
        });
        true
    }
}
