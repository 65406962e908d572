//! Replaces the real values of credentials in answers by their dummies, while the answer streams (SPEC
//! B12).
//!
//! It sees decoded content: a content coding is undone before. Content without a value passes as it is,
//! without a copy. The bytes that are held back at the end of a piece depend on the content, not on the
//! value, so the sizes and times of the pieces that are sent do not show how much of a guess is right: the
//! last bytes that may be a part of a token (`last_token`), at most those of one value in its
//! longest form but one, until later content or the end. A value with other bytes, such as a
//! space or a quote, is held back only while its first bytes match, so a program could guess such a value
//! byte by byte.
//!
//! Each byte of content is looked at a bounded number of times, in pieces of any size.
//!
//! It does not find values in forms that `value_search` does not have, such as a hash or an encoding of an
//! encoding.

mod last_token;

use std::ops::Range;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::{Buf as _, Bytes, BytesMut};
use zeroize::Zeroizing;

use self::last_token::LastToken;
use super::encodings::{BASE64_PLACES, base64_at, bits_of, character_of, url_safe};
use super::escapes::{self, Reading, Written};
use super::value_search::{
    ContentEnd, SearchProgress, SearchResult, SearchedText, TextEncoding, ValueSearch,
};

/// The real values of one session, and what replaces them. It is shared by all answers of the session.
pub(crate) struct Scrubber {
    search: ValueSearch,
    /// The dummies of the values, in the same order.
    replacements: Vec<Replacement>,
    /// The values, and these in base64, in lower case.
    in_lower_case: Vec<Zeroizing<String>>,
    preserves_length: bool,
}

/// The scrubber of one session in force. Each refresh of a value brings another one, which the answers that have
/// begun use too.
pub(crate) struct CurrentScrubber(ArcSwap<Scrubber>);

/// The content of one answer.
pub(crate) struct ScrubbedStream {
    scrubber: Arc<Scrubber>,
    /// The last bytes of the content, which may become a value.
    held: BytesMut,
    /// How far they are searched.
    progress: SearchProgress,
    token: LastToken,
    /// Bits of a value in the next character.
    remainder: Option<Remainder>,
}

/// A dummy, and the last bytes of the value and of the dummy where both have the same length.
struct Replacement {
    dummy: String,
    /// Of the length of the value, so that in base64 the bytes behind it are still decoded.
    fitted: Vec<u8>,
    last_byte: u8,
}

/// The last bits of a value in base64, where they share a character with the byte that follows.
#[derive(Clone, Copy)]
struct Remainder {
    is_url_safe: bool,
    /// The bits of the character that belong to the value.
    mask: u8,
    value: u8,
    dummy: u8,
}

/// The end of a piece of content.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PieceEnd {
    /// More content may come.
    Open,
    /// The content has ended.
    Last,
    /// Only values that begin before this place count. The piece has all of each.
    Overlap(usize),
}

/// Content in one piece of memory.
#[derive(Clone, Copy)]
enum Content<'c> {
    /// A piece, whose parts are sent on without a copy.
    Shared(&'c Bytes),
    /// Bytes that were held back, and what follows them.
    Held(&'c [u8]),
}

impl Scrubber {
    /// Takes pairs of a real value and its dummy. Of equal values, the first one counts.
    pub(crate) fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let pairs: Vec<_> = pairs.into_iter().collect();
        Self {
            search: ValueSearch::new(pairs.iter().map(|(value, _)| *value)),
            replacements: pairs
                .iter()
                .map(|(value, dummy)| Replacement::new(value, dummy))
                .collect(),
            in_lower_case: pairs
                .iter()
                .flat_map(|(value, _)| in_lower_case(value))
                .collect(),
            preserves_length: pairs.iter().all(|(value, dummy)| {
                let replacement = Replacement::new(value, dummy);
                let base64 = |text: &[u8]| (0..3).map(|place| base64_at(text, place)).collect();
                let forms: Vec<_> = base64(value.as_bytes());
                let fitted: Vec<_> = base64(&replacement.fitted);
                let mut forms = forms.iter().zip(&fitted);
                keeps_length(value, dummy) && forms.all(|(one, other)| keeps_length(one, other))
            }),
        }
    }

    /// Whether content keeps its length. Otherwise an announced length is not valid any more.
    pub(crate) fn preserves_length(&self) -> bool {
        self.preserves_length
    }

    /// Whether the name of a header field, which is in lower case, has a real value, as it is or in base64, and any
    /// character of that as `%XX`. A client may get it in the case that the origin wrote.
    pub(crate) fn finds_in_name(&self, name: &str) -> bool {
        let is_in = |name: &str| {
            let mut texts = self.in_lower_case.iter();
            texts.any(|text| name.len() >= text.len() && name.contains(&***text))
        };
        is_in(name)
            || escapes::without_percent(name)
                .is_some_and(|decoded| is_in(&Zeroizing::new(decoded).to_ascii_lowercase()))
    }

    /// The same text without real values, such as the value of a header field; `None` if it has none.
    pub(crate) fn scrub(self: &Arc<Self>, text: &[u8]) -> Option<Vec<u8>> {
        let mut progress = SearchProgress::default();
        let SearchResult::Found(..) = self.search.search(text, &mut progress, ContentEnd::Last)
        else {
            return None;
        };
        let mut stream = ScrubbedStream::new(Arc::clone(self));
        let mut clean = Vec::with_capacity(text.len());
        let mut send = |piece: Bytes| clean.extend_from_slice(&piece);
        stream.scrub(Content::Held(text), PieceEnd::Last, &mut send);
        Some(clean)
    }
}

impl CurrentScrubber {
    pub(crate) fn new(scrubber: Scrubber) -> Self {
        Self(ArcSwap::from_pointee(scrubber))
    }

    /// Puts another scrubber in force.
    pub(crate) fn replace(&self, scrubber: Scrubber) {
        self.0.store(Arc::new(scrubber));
    }

    /// The scrubber in force. It knows each value that a request may have carried before the call.
    pub(crate) fn load(&self) -> Arc<Scrubber> {
        self.0.load_full()
    }
}

impl ScrubbedStream {
    /// An answer that has not begun.
    pub(crate) fn new(scrubber: Arc<Scrubber>) -> Self {
        Self {
            scrubber,
            held: BytesMut::new(),
            progress: SearchProgress::default(),
            token: LastToken::default(),
            remainder: None,
        }
    }

    /// The scrubber in use.
    pub(crate) fn scrubber(&self) -> &Arc<Scrubber> {
        &self.scrubber
    }

    /// Uses the scrubber in force from here on. If it is another one, the bytes that are held back are searched
    /// again from their beginning.
    pub(crate) fn follow(&mut self, current: &CurrentScrubber) {
        let current = current.0.load();
        if !Arc::ptr_eq(&self.scrubber, &current) {
            self.scrubber = Arc::clone(&current);
            self.progress.go_to(0);
        }
    }

    /// The number of bytes that are held back.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Takes the next piece of content, and gives the pieces that may be sent on, none of which is empty.
    pub(crate) fn push(&mut self, mut piece: Bytes, mut send: impl FnMut(Bytes)) {
        let send = &mut send;
        let longest = self.scrubber.search.max_bytes();
        if !self.held.is_empty() && piece.len() <= 2 * longest {
            // The bytes that stay are not copied: a piece may be one byte.
            self.held.extend_from_slice(&piece);
            let mut content = std::mem::take(&mut self.held);
            let passed = self.scrub(Content::Held(&content), PieceEnd::Open, send);
            content.advance(passed);
            self.held = content;
            self.forget(passed);
            return;
        }
        if !self.held.is_empty() {
            // A value that begins in the held bytes ends here. The rest of the piece is not copied.
            let held = self.held.len();
            self.held.extend_from_slice(&piece[..longest]);
            let content = self.held.split().freeze();
            let passed = self.scrub(Content::Shared(&content), PieceEnd::Overlap(held), send);
            piece = piece.split_off(passed - held);
        }
        self.progress.go_to(0);
        self.token = LastToken::default();
        let passed = self.scrub(Content::Shared(&piece), PieceEnd::Open, send);
        self.held.extend_from_slice(&piece[passed..]);
        self.forget(passed);
    }

    /// Gives the bytes that are still held back. The content has ended.
    pub(crate) fn finish(&mut self, mut send: impl FnMut(Bytes)) {
        let content = self.held.split().freeze();
        self.scrub(Content::Shared(&content), PieceEnd::Last, &mut send);
    }

    /// The first bytes are not held back any more.
    fn forget(&mut self, bytes: usize) {
        self.progress.forget(bytes);
        self.token.forget(bytes);
    }

    /// Sends content on, but for the end of an open piece. Gives the place up to which the content was sent.
    fn scrub(
        &mut self,
        content: Content<'_>,
        end: PieceEnd,
        send: &mut impl FnMut(Bytes),
    ) -> usize {
        let scrubber = Arc::clone(&self.scrubber);
        let bytes = content.bytes();
        let content_end = match end {
            PieceEnd::Open => ContentEnd::Open,
            PieceEnd::Last | PieceEnd::Overlap(_) => ContentEnd::Last,
        };
        let longest = scrubber.search.max_bytes().saturating_sub(1);
        let mut held = match end {
            PieceEnd::Open => self.token.begin(bytes, longest),
            PieceEnd::Last => bytes.len(),
            PieceEnd::Overlap(place) => place,
        };
        let mut from = 0;
        loop {
            match scrubber
                .search
                .search(bytes, &mut self.progress, content_end)
            {
                // It is replaced when it is sent.
                SearchResult::Found(range, _) if held <= range.start => break,
                SearchResult::Found(range, text) => {
                    self.pass(content, from..range.start, send);
                    let (clean, remainder) = scrubber.replacement(text, &bytes[range.clone()]);
                    send(clean);
                    self.remainder = remainder;
                    from = range.end;
                    held = held.max(from);
                    self.progress.go_to(from);
                }
                SearchResult::Incomplete(place) => {
                    held = held.min(place);
                    break;
                }
                SearchResult::Nothing => break,
            }
        }
        self.pass(content, from..held, send);
        held
    }

    /// Sends bytes without a value on.
    fn pass(&mut self, content: Content<'_>, range: Range<usize>, send: &mut impl FnMut(Bytes)) {
        let Range { mut start, end } = range;
        if start == end {
            return;
        }
        if let Some(remainder) = self.remainder.take()
            && let Some(character) = remainder.replace(content.bytes()[start])
        {
            send(Bytes::copy_from_slice(&[character]));
            start += 1;
        }
        if start < end {
            send(content.part(start..end));
        }
    }
}

impl<'c> Content<'c> {
    fn bytes(self) -> &'c [u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Held(bytes) => bytes,
        }
    }

    fn part(self, range: Range<usize>) -> Bytes {
        match self {
            Self::Shared(bytes) => bytes.slice(range),
            Self::Held(bytes) => Bytes::copy_from_slice(&bytes[range]),
        }
    }
}

/// The forms of a value in the name of a field, in lower case.
fn in_lower_case(value: &str) -> impl Iterator<Item = Zeroizing<String>> {
    let base64 = (0..BASE64_PLACES).map(|place| base64_at(value.as_bytes(), place));
    let both = base64.flat_map(|text| [Zeroizing::new(url_safe(&text)), text]);
    [Zeroizing::new(value.to_owned())]
        .into_iter()
        .chain(both)
        .map(|text| Zeroizing::new(text.to_ascii_lowercase()))
}

/// Whether each character of a value takes as many bytes as that of its dummy, in each form.
fn keeps_length(value: &str, dummy: &str) -> bool {
    let are_alike = |(one, other): (char, char)| {
        one == other || escapes::is_unreserved(one) && other.is_ascii()
    };
    value.len() == dummy.len() && value.chars().zip(dummy.chars()).all(are_alike)
}

impl Replacement {
    fn new(value: &str, dummy: &str) -> Self {
        Self {
            dummy: dummy.to_owned(),
            fitted: dummy.bytes().cycle().take(value.len()).collect(),
            last_byte: value.bytes().last().unwrap_or_default(),
        }
    }
}

impl Scrubber {
    /// The dummy in the form of the value that was found, and the bits of the value behind it.
    fn replacement(&self, text: &SearchedText, raw: &[u8]) -> (Bytes, Option<Remainder>) {
        let replacement = &self.replacements[text.value];
        let TextEncoding::Base64(place) = text.encoding else {
            return (written_like(text, raw, &replacement.dummy, false), None);
        };
        let is_url_safe = text.is_url_safe(raw);
        let dummy = base64_at(&replacement.fitted, place);
        let clean = written_like(text, raw, &dummy, is_url_safe);
        (clean, replacement.remainder(place, is_url_safe))
    }
}

/// The dummy, each character in the form of the one of the text in its place.
fn written_like(text: &SearchedText, raw: &[u8], dummy: &str, is_url_safe: bool) -> Bytes {
    let mut clean = Vec::with_capacity(raw.len());
    let mut place = 0;
    let mut form = Written::Plainly;
    let is_plain = text.is_plainly(raw);
    let mut characters = text.chars();
    for character in dummy.chars() {
        let Some(replaced) = characters.next() else {
            escapes::write(character, form, &mut clean);
            continue;
        };
        let mut range = place..place + replaced.len_utf8();
        if !is_plain && let Reading::Is(length, written) = text.read_last(&raw[place..], replaced) {
            range = place..place + length;
            form = written;
        }
        place = range.end;
        if character == replaced {
            clean.extend_from_slice(&raw[range]);
        } else {
            let character = match character {
                '+' if is_url_safe => '-',
                '/' if is_url_safe => '_',
                other => other,
            };
            escapes::write(character, form, &mut clean);
        }
    }
    clean.into()
}

impl Replacement {
    fn remainder(&self, place: usize, is_url_safe: bool) -> Option<Remainder> {
        let (mask, shift) = match (place + self.fitted.len()) % 3 {
            // The last two, or the last four, bits of the value.
            1 => (0b11_0000, 4),
            2 => (0b11_1100, 2),
            _ => return None,
        };
        Some(Remainder {
            is_url_safe,
            mask,
            value: (self.last_byte << shift) & mask,
            dummy: (self.fitted.last()? << shift) & mask,
        })
    }
}

impl Remainder {
    /// The character with the bits of the dummy, if it has those of the value.
    fn replace(self, character: u8) -> Option<u8> {
        let bits = bits_of(character)?;
        (bits & self.mask == self.value).then(|| {
            match character_of(bits & !self.mask | self.dummy) {
                b'+' if self.is_url_safe => b'-',
                b'/' if self.is_url_safe => b'_',
                other => other,
            }
        })
    }
}

#[cfg(not(test))]
const fn count_byte() {}

#[cfg(test)]
use super::value_search::tests::count_step as count_byte;

#[cfg(test)]
mod tests;
