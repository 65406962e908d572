//! Replaces the real values of credentials in answers by their dummies, while the answer streams (SPEC
//! B12).
//!
//! It sees decoded content: a content coding is undone before. Content without a value passes as it is,
//! without a copy. The bytes that are held back at the end of a piece depend on the content, not on the
//! value, so the sizes and times of the pieces that are sent do not show how much of a guess is right: the
//! last bytes that may be a part of a token (`may_stand_in_token`), at most those of one value in its
//! longest form but one, until later content or the end. A value in a form with other bytes, such as a
//! space or a quote, is held back only while its first bytes match, so a program could guess such a value
//! byte by byte.
//!
//! It does not find values in forms that [`Encoding`] does not have, such as a hash or an encoding of an
//! encoding.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zeroize::Zeroizing;

use super::encodings::{Base64Alphabet, Encoding};
use super::needles::Needles;

/// The real values of one session, and what replaces them. It is shared by all answers of the session.
pub(crate) struct Scrubber {
    needles: Needles<Replacement>,
    /// Those with a byte that does not stand in tokens.
    others: Needles<()>,
    /// All of them in lower case.
    names: Needles<()>,
    preserves_length: bool,
}

/// The content of one answer.
pub(crate) struct ScrubbedStream {
    scrubber: Arc<Scrubber>,
    /// The last bytes of the content, which may become a value.
    held: BytesMut,
    /// Bits of a value in the next character.
    remainder: Option<Remainder>,
}

/// The form of a dummy that replaces the same form of a value.
struct Replacement {
    text: Bytes,
    remainder: Option<Remainder>,
}

/// The last bits of a value in base64, where they share a character with the byte that follows.
#[derive(Clone, Copy)]
struct Remainder {
    alphabet: Base64Alphabet,
    /// The bits of the character that belong to the value.
    mask: u8,
    value: u8,
    dummy: u8,
}

impl Scrubber {
    /// Takes pairs of a real value and its dummy. Of equal values, the first one counts.
    pub(crate) fn new<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut preserves_length = true;
        let mut strings = Vec::new();
        let (mut others, mut names) = (Vec::new(), Vec::new());
        for (value, dummy) in pairs {
            for encoding in Encoding::all() {
                let form = encoding.encode(value);
                let replacement = Replacement::new(encoding, value, dummy);
                preserves_length &= form.len() == replacement.text.len();
                if !form.iter().copied().all(may_stand_in_token) {
                    others.push((form.clone(), ()));
                }
                names.push((Zeroizing::new(form.to_ascii_lowercase()), ()));
                strings.push((form, replacement));
            }
        }
        Self {
            needles: Needles::new(strings),
            others: Needles::new(others),
            names: Needles::new(names),
            preserves_length,
        }
    }

    /// Where the bytes of `content[from..]` begin that are held back until more content comes.
    fn held_from(&self, content: &[u8], from: usize) -> usize {
        let longest = self.needles.max_bytes().saturating_sub(1);
        let first = from.max(content.len().saturating_sub(longest));
        let end_of_others = content[first..]
            .iter()
            .rposition(|&byte| !may_stand_in_token(byte))
            .map_or(first, |place| first + place + 1);
        end_of_others.min(self.others.incomplete_from(content, from))
    }

    /// Whether content keeps its length. Otherwise an announced length is not valid any more.
    pub(crate) fn preserves_length(&self) -> bool {
        self.preserves_length
    }

    /// Whether the name of a header field, which is in lower case, has a real value. A client may get it in the
    /// case that the origin wrote.
    pub(crate) fn finds_in_name(&self, name: &str) -> bool {
        self.names.find(name.as_bytes(), 0).is_some()
    }

    /// The same text without real values, such as the value of a header field; `None` if it has none.
    pub(crate) fn scrub(self: &Arc<Self>, text: &[u8]) -> Option<Vec<u8>> {
        self.needles.find(text, 0)?;
        let mut stream = ScrubbedStream::new(Arc::clone(self));
        let mut clean = Vec::with_capacity(text.len());
        stream.push(Bytes::copy_from_slice(text), |piece| {
            clean.extend_from_slice(&piece);
        });
        stream.finish(|piece| clean.extend_from_slice(&piece));
        Some(clean)
    }
}

impl ScrubbedStream {
    /// An answer that has not begun.
    pub(crate) fn new(scrubber: Arc<Scrubber>) -> Self {
        Self {
            scrubber,
            held: BytesMut::new(),
            remainder: None,
        }
    }

    /// The number of bytes that are held back.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Takes the next piece of content, and gives the pieces that may be sent on, none of which is empty.
    pub(crate) fn push(&mut self, piece: Bytes, mut send: impl FnMut(Bytes)) {
        let content = if self.held.is_empty() {
            piece
        } else {
            self.held.extend_from_slice(&piece);
            self.held.split().freeze()
        };
        self.scrub(&content, false, &mut send);
    }

    /// Gives the bytes that are still held back. The content has ended.
    pub(crate) fn finish(&mut self, mut send: impl FnMut(Bytes)) {
        let content = self.held.split().freeze();
        self.scrub(&content, true, &mut send);
    }

    fn scrub(&mut self, content: &Bytes, is_last: bool, send: &mut impl FnMut(Bytes)) {
        let scrubber = Arc::clone(&self.scrubber);
        let needles = &scrubber.needles;
        let held_from = |from| {
            if is_last {
                content.len()
            } else {
                scrubber.held_from(content, from)
            }
        };
        let mut from = 0;
        let mut held = held_from(0);
        while let Some(found) = needles.find(content, from) {
            // A longer value may begin there, or an earlier one.
            if held <= found.range.start {
                break;
            }
            self.pass(content.slice(from..found.range.start), send);
            send(found.meaning.text.clone());
            self.remainder = found.meaning.remainder;
            from = found.range.end;
            if held < from {
                held = held_from(from);
            }
        }
        self.pass(content.slice(from..held), send);
        self.held.extend_from_slice(&content[held..]);
    }

    /// Sends bytes without a value on.
    fn pass(&mut self, mut bytes: Bytes, send: &mut impl FnMut(Bytes)) {
        if bytes.is_empty() {
            return;
        }
        if let Some(remainder) = self.remainder.take()
            && let Some(character) = remainder.replace(bytes[0])
        {
            send(Bytes::copy_from_slice(&[character]));
            bytes = bytes.slice(1..);
        }
        if !bytes.is_empty() {
            send(bytes);
        }
    }
}

/// Whether a byte is one of tokens, or of their encodings. White space, quotes, brackets, `,` and `;` are
/// not: events, lines and JSON texts end with them, and pass at once.
fn may_stand_in_token(byte: u8) -> bool {
    byte.is_ascii_graphic() && !br#""'`()<>[]{},;"#.contains(&byte)
}

impl Replacement {
    fn new(encoding: Encoding, value: &[u8], dummy: &[u8]) -> Self {
        let Encoding::Base64(alphabet, phase) = encoding else {
            let text = Bytes::copy_from_slice(&encoding.encode(dummy));
            return Self {
                text,
                remainder: None,
            };
        };
        // Of the length of the value, so that the bytes behind it are still decoded.
        let fitted: Vec<u8> = dummy.iter().copied().cycle().take(value.len()).collect();
        Self {
            text: Bytes::copy_from_slice(&encoding.encode(&fitted)),
            remainder: Remainder::new(alphabet, phase, value, &fitted),
        }
    }
}

impl Remainder {
    fn new(alphabet: Base64Alphabet, phase: usize, value: &[u8], dummy: &[u8]) -> Option<Self> {
        let (mask, shift) = match (phase + value.len()) % 3 {
            // The last two, or the last four, bits of the value.
            1 => (0b11_0000, 4),
            2 => (0b11_1100, 2),
            _ => return None,
        };
        let bits = |text: &[u8]| text.last().map(|byte| (byte << shift) & mask);
        Some(Self {
            alphabet,
            mask,
            value: bits(value)?,
            dummy: bits(dummy)?,
        })
    }

    /// The character with the bits of the dummy, if it has those of the value.
    fn replace(self, character: u8) -> Option<u8> {
        let bits = self.alphabet.decode(character)?;
        (bits & self.mask == self.value)
            .then(|| self.alphabet.character(bits & !self.mask | self.dummy))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::super::needles::tests::naive_find;
    use super::*;

    const VALUE: &str = "sk-proj-Zm9vYmFyLWJhei1xdXV4";
    const DUMMY: &str = "sk-proj-maskedY2FsbGVkLWl0Lj";

    fn scrubber(pairs: &[(&str, &str)]) -> Arc<Scrubber> {
        let pairs = pairs.iter().map(|(v, d)| (v.as_bytes(), d.as_bytes()));
        Arc::new(Scrubber::new(pairs))
    }

    /// Scrubs content that arrives in these pieces.
    fn scrub(scrubber: &Arc<Scrubber>, pieces: &[&[u8]]) -> Vec<u8> {
        let mut stream = ScrubbedStream::new(Arc::clone(scrubber));
        let mut clean = Vec::new();
        let mut send = |piece: Bytes| {
            assert!(!piece.is_empty());
            clean.extend_from_slice(&piece);
        };
        for piece in pieces {
            stream.push(Bytes::copy_from_slice(piece), &mut send);
            assert!(stream.held.len() < scrubber.needles.max_bytes().max(1));
        }
        stream.finish(&mut send);
        assert!(stream.held.is_empty());
        clean
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).expect("text")
    }

    #[test]
    fn b12_the_value_becomes_the_dummy_wherever_the_content_is_split() {
        let scrubber = scrubber(&[(VALUE, DUMMY)]);
        let content = format!("{{\"token\": \"{VALUE}\", \"sk-proj-\": \"{VALUE}{VALUE}\"}}");
        let expected = content.replace(VALUE, DUMMY);
        let content = content.as_bytes();
        assert_eq!(text(&scrub(&scrubber, &[content])), expected);
        for first in 0..=content.len() {
            for second in first..=content.len() {
                let pieces = [
                    &content[..first],
                    &content[first..second],
                    &content[second..],
                ];
                assert_eq!(text(&scrub(&scrubber, &pieces)), expected);
            }
        }
        let bytes: Vec<&[u8]> = content.chunks(1).collect();
        assert_eq!(text(&scrub(&scrubber, &bytes)), expected);
        assert!(scrubber.preserves_length());
    }

    #[test]
    fn b12_base64_decodes_to_the_dummy_at_every_place_in_a_group() {
        let scrubber = scrubber(&[(VALUE, DUMMY)]);
        for before in ["", "x", "xy", "x-access-token:", "me:", "user1:"] {
            for after in ["", ":", "\"}", "\n--", ":x-oauth-basic"] {
                let plain = format!("{before}{VALUE}{after}");
                let expected = plain.replace(VALUE, DUMMY);
                for (name, encoded, dummy) in [
                    (
                        "standard",
                        STANDARD.encode(&plain),
                        STANDARD.encode(&expected),
                    ),
                    (
                        "url-safe",
                        URL_SAFE_NO_PAD.encode(&plain),
                        URL_SAFE_NO_PAD.encode(&expected),
                    ),
                ] {
                    let content = format!("Basic {encoded}\r\n");
                    for at in 0..=content.len() {
                        let (one, other) = content.as_bytes().split_at(at);
                        let clean = scrub(&scrubber, &[one, other]);
                        assert_eq!(text(&clean), format!("Basic {dummy}\r\n"), "{name} {at}");
                    }
                }
            }
        }
    }

    #[test]
    fn b12_escaped_forms_become_the_same_form_of_the_dummy() {
        let value = "p/ss&w=rd'+<q>\"x";
        let dummy = "m/sk&d=ab'+<c>\"y";
        let scrubber = scrubber(&[(value, dummy)]);
        for encoding in Encoding::all() {
            let form = encoding.encode(value.as_bytes());
            let clean = scrub(&scrubber, &[b"[", &form, b"]"]);
            let expected = [b"[", &encoding.encode(dummy.as_bytes())[..], b"]"].concat();
            assert_eq!(clean, expected, "{encoding:?}");
        }
    }

    #[test]
    fn b12_a_dummy_of_another_length_keeps_base64_decodable() {
        let scrubber = scrubber(&[("password", "masked-0123456789abcdef0123456789")]);
        assert!(!scrubber.preserves_length());
        let content = b"[password]";
        let clean = scrub(&scrubber, &[content]);
        assert_eq!(text(&clean), "[masked-0123456789abcdef0123456789]");
        let clean = scrub(&scrubber, &[STANDARD.encode("me:password:x").as_bytes()]);
        let decoded = STANDARD.decode(clean).expect("base64");
        assert_eq!(text(&decoded), "me:masked-0:x");
    }

    #[test]
    fn b12_other_content_passes_without_a_copy_and_is_not_held_back() {
        let scrubber = scrubber(&[(VALUE, DUMMY)]);
        let mut stream = ScrubbedStream::new(Arc::clone(&scrubber));
        let piece = Bytes::from_static(b"data: {\"delta\": \"hello\"}\n\n");
        let mut sent = Vec::new();
        stream.push(piece.clone(), |piece| sent.push(piece));
        assert_eq!(sent, std::slice::from_ref(&piece));
        assert_eq!(sent[0].as_ptr(), piece.as_ptr());
        assert!(stream.held.is_empty());
        assert_eq!(scrubber.scrub(b"nothing here"), None);
        let field = scrubber.scrub(format!("token={VALUE}; Path=/").as_bytes());
        let field = field.expect("a scrubbed field");
        assert_eq!(text(&field), format!("token={DUMMY}; Path=/"));
    }

    /// The pieces that are sent.
    fn sent(scrubber: &Arc<Scrubber>, pieces: &[&[u8]]) -> Vec<Vec<Bytes>> {
        let mut stream = ScrubbedStream::new(Arc::clone(scrubber));
        let mut sent = Vec::new();
        for piece in pieces {
            let mut now = Vec::new();
            stream.push(Bytes::copy_from_slice(piece), |piece| now.push(piece));
            sent.push(now);
        }
        let mut now = Vec::new();
        stream.finish(|piece| now.push(piece));
        sent.push(now);
        sent
    }

    #[test]
    fn b12_the_pieces_sent_do_not_show_how_much_of_a_guess_is_right() {
        let scrubber = scrubber(&[(VALUE, DUMMY)]);
        let lengths = |pieces: &[&[u8]]| -> Vec<Vec<usize>> {
            let sent = sent(&scrubber, pieces).into_iter();
            sent.map(|pieces| pieces.iter().map(Bytes::len).collect())
                .collect()
        };
        for encoding in Encoding::all() {
            let form = encoding.encode(VALUE.as_bytes());
            for length in 1..form.len() {
                for right in [0, length / 2, length - 1] {
                    let guess = &form[..length];
                    let mut wrong = guess.to_vec();
                    for byte in &mut wrong[right..] {
                        *byte = if *byte == b'Q' { b'R' } else { b'Q' };
                    }
                    for before in ["", "token=", "\"token\": \"", "line\n"] {
                        for after in ["", "Q", "\"}", "\n"] {
                            let whole = |guess: &[u8]| [before.as_bytes(), guess].concat();
                            let (one, other) = (whole(guess), whole(&wrong));
                            let after = after.as_bytes();
                            assert_eq!(
                                lengths(&[&one, after]),
                                lengths(&[&other, after]),
                                "{encoding:?} {right} {length} {before:?} {after:?}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn b12_events_lines_and_json_texts_pass_at_once() {
        let scrubber = scrubber(&[(VALUE, DUMMY)]);
        let begun = format!("data: {}\n\n", &VALUE[..12]);
        for piece in [
            "data: sk-proj-\n\n",
            &begun,
            "a line\r\n",
            "a word ",
            "\"sk-proj-\"",
            "{\"delta\": \"sk-\"}",
            "[1]",
            "[1,",
        ] {
            let whole = Bytes::copy_from_slice(piece.as_bytes());
            assert_eq!(
                sent(&scrubber, &[piece.as_bytes()]),
                [vec![whole], vec![]],
                "{piece:?}"
            );
        }
    }

    #[test]
    fn b12_a_value_with_other_bytes_than_tokens_is_found_at_every_split() {
        let (value, dummy) = ("pass word, \"it's\"", "mask word, \"it's\"");
        let scrubber = scrubber(&[(value, dummy)]);
        let content = format!("[{value}] {value}");
        for at in 0..=content.len() {
            let (one, other) = content.as_bytes().split_at(at);
            let clean = scrub(&scrubber, &[one, other]);
            assert_eq!(text(&clean), content.replace(value, dummy), "{at}");
        }
    }

    #[test]
    fn b12_a_value_that_begins_with_another_is_replaced_as_a_whole_at_every_split() {
        let scrubber = scrubber(&[("abcdefgh", "<one>"), ("abcdefghijkl", "<longer>")]);
        let content = b"abcdefghijkl abcdefghijkx abcdefgh";
        for at in 0..=content.len() {
            let (one, other) = content.split_at(at);
            let clean = scrub(&scrubber, &[one, other]);
            assert_eq!(text(&clean), "<longer> <one>ijkx <one>", "{at}");
        }
    }

    #[test]
    fn b12_nothing_is_replaced_without_credentials() {
        let scrubber = scrubber(&[]);
        assert_eq!(scrub(&scrubber, &[b"ab", b"cd"]), b"abcd");
    }

    /// The same with the whole content at hand, by comparing at each place.
    fn naive(strings: &[(Vec<u8>, Vec<u8>)], content: &[u8]) -> Vec<u8> {
        let needles: Vec<Vec<u8>> = strings.iter().map(|(value, _)| value.clone()).collect();
        let mut clean = Vec::new();
        let mut from = 0;
        while let Some((at, needle)) = naive_find(&needles, content, from) {
            clean.extend_from_slice(&content[from..at]);
            let (_, dummy) = strings.iter().find(|(v, _)| v == needle).expect("itself");
            clean.extend_from_slice(dummy);
            from = at + needle.len();
        }
        clean.extend_from_slice(&content[from..]);
        clean
    }

    proptest! {
        #[test]
        fn b12_a_stream_is_scrubbed_as_its_whole_content_is(
            values in prop::collection::vec("[ab]{8,12}", 1..4),
            pieces in prop::collection::vec("[ab%]{0,16}", 0..12),
        ) {
            // Values that overlap each other, begin with each other and repeat themselves.
            let pairs: Vec<(String, String)> = values
                .iter()
                .enumerate()
                .map(|(number, value)| (value.clone(), format!("<{number}>")))
                .collect();
            let borrowed: Vec<(&str, &str)> = pairs.iter().map(|(v, d)| (&**v, &**d)).collect();
            let scrubber = scrubber(&borrowed);
            let pieces: Vec<&[u8]> = pieces.iter().map(String::as_bytes).collect();
            let strings: Vec<(Vec<u8>, Vec<u8>)> = pairs
                .iter()
                .map(|(v, d)| (v.clone().into_bytes(), d.clone().into_bytes()))
                .collect();
            let whole = pieces.concat();
            prop_assert_eq!(scrub(&scrubber, &pieces), naive(&strings, &whole));
            prop_assert_eq!(scrub(&scrubber, &[&whole]), naive(&strings, &whole));
        }

        #[test]
        fn b12_no_form_of_a_value_survives_any_split(
            value in "[A-Za-z0-9/+=_.-]{8,40}",
            noise in prop::collection::vec(any::<u8>(), 0..5),
            form in 0usize..15,
            cuts in prop::collection::vec(0usize..400, 0..6),
        ) {
            let masked = |c: char| if c.is_ascii_alphanumeric() { '!' } else { c };
            let dummy: String = value.chars().map(masked).collect::<String>().replace('!', "m");
            let scrubber = scrubber(&[(&value, &dummy)]);
            let encoding = Encoding::all().nth(form).expect("a form");
            prop_assume!(encoding.encode(value.as_bytes()) != encoding.encode(dummy.as_bytes()));
            let form = encoding.encode(value.as_bytes());
            let content = [&noise[..], &form, &noise, &form].concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(content.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&content[from..cut]);
                from = cut;
            }
            pieces.push(&content[from..]);
            let clean = scrub(&scrubber, &pieces);
            prop_assert!(!clean.windows(form.len()).any(|window| window == &form[..]));
            prop_assert_eq!(clean.len(), content.len());
        }
    }
}
