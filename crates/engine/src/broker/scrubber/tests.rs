//! Values in every form of common encoders, at every split, beside a naive twin.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::super::encodings::url_safe;
use super::super::needles::tests::naive_find;
use super::super::value_search::tests::steps_of;
use super::*;

const VALUE: &str = "sk-proj-Zm9vYmFyLWJhei1xdXV4";
const DUMMY: &str = "sk-proj-maskedY2FsbGVkLWl0Lj";

fn scrubber(pairs: &[(&str, &str)]) -> Arc<Scrubber> {
    Arc::new(Scrubber::new(pairs.iter().copied()))
}

/// The forms in which the encoders of common languages write a text.
fn encoded(text: &str) -> Vec<(&'static str, String)> {
    let each = |write: &dyn Fn(char) -> String| text.chars().map(write).collect::<String>();
    let percent = |keeps: &dyn Fn(char) -> bool, c: char| {
        let bytes = c.to_string().into_bytes();
        let escaped = bytes.iter().map(|byte| format!("%{byte:02X}"));
        if keeps(c) {
            c.into()
        } else {
            escaped.collect()
        }
    };
    let component = |c: char| c.is_ascii_alphanumeric() || "-_.!~*'()".contains(c);
    let quote = |c: char| c.is_ascii_alphanumeric() || "-_.~/".contains(c);
    let json = |c: char| {
        let text = serde_json::to_string(&c.to_string()).expect("JSON");
        text[1..text.len() - 1].to_owned()
    };
    let unicode = |which: &str, c: char| {
        if which.contains(c) {
            format!("\\u{:04x}", u32::from(c))
        } else {
            json(c)
        }
    };
    let html = |quotes: [&str; 2], c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => quotes[0].to_owned(),
        '\'' => quotes[1].to_owned(),
        other => other.into(),
    };
    let mut forms = vec![
        ("plain", text.to_owned()),
        ("encodeURIComponent", each(&|c| percent(&component, c))),
        ("urllib.parse.quote", each(&|c| percent(&quote, c))),
        (
            "form",
            each(&|c| {
                if c == ' ' {
                    "+".into()
                } else {
                    percent(&quote, c)
                }
            }),
        ),
        (
            "small letters",
            each(&|c| {
                if quote(c) {
                    c.into()
                } else {
                    percent(&quote, c).to_lowercase()
                }
            }),
        ),
        ("every byte", each(&|c| percent(&|_| false, c))),
        ("JSON", each(&json)),
        (
            "JSON, slash",
            each(&|c| if c == '/' { r"\/".into() } else { json(c) }),
        ),
        ("JSON, HTML", each(&|c| unicode("&<>'", c))),
        ("JSON, strict", each(&|c| unicode("&<>'=+/", c))),
        (
            "JSON, every character",
            each(&|c| format!("\\u{:04x}", u32::from(c))),
        ),
        ("html.escape", each(&|c| html(["&quot;", "&#x27;"], c))),
        ("htmlspecialchars", each(&|c| html(["&quot;", "&#039;"], c))),
        (
            "Go",
            each(&|c| html(["&#34;", "&#39;"], c).replace('+', "&#43;")),
        ),
        (
            "HtmlEncoder",
            each(&|c| html(["&quot;", "&#x27;"], c).replace('+', "&#x2B;")),
        ),
    ];
    forms.extend(escaped(text));
    for place in 0..3 {
        let base64 = base64_at(text.as_bytes(), place);
        let escaped = base64.replace('+', "%2B").replace('/', "%2F");
        forms.push(("base64", base64.to_string()));
        forms.push(("base64url", url_safe(&base64)));
        forms.push(("base64 in a query", escaped));
        forms.push(("base64 in JSON", base64.replace('/', r"\/")));
    }
    forms
}

/// The forms of encoders that escape everything but letters and digits.
fn escaped(text: &str) -> Vec<(&'static str, String)> {
    let each = |write: &dyn Fn(char) -> String| {
        let one = |c: char| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' => c.into(),
            other => write(other),
        };
        text.chars().map(one).collect::<String>()
    };
    let code = |c: char| u32::from(c);
    vec![
        ("ESAPI, URL", each(&|c| format!("%{:02X}", code(c)))),
        ("ESAPI, HTML", each(&|c| format!("&#x{:x};", code(c)))),
        ("HTML, numbers", each(&|c| format!("&#{};", code(c)))),
        ("HTML, zeros", each(&|c| format!("&#{:07};", code(c)))),
        ("HTML, large X", each(&|c| format!("&#X{:04X};", code(c)))),
        ("JavaScript", each(&|c| format!("\\x{:02x}", code(c)))),
        ("ESAPI, JSON", each(&|c| format!("\\u{:04x}", code(c)))),
        (
            "Markdown",
            each(&|c| match c {
                ' ' => " ".into(),
                other => format!("\\{other}"),
            }),
        ),
    ]
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
        assert!(stream.held.len() < scrubber.search.max_bytes().max(1));
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
    for (value, dummy) in [
        ("p/ss w&w=rd'+<q>\"x\\?~", "m/sk d&d=ab'+<c>\"y\\?~"),
        (VALUE, DUMMY),
        ("ghp_0123456789abcd.efgh", "ghp_masked01234567.uvwx"),
        ("hf_0123456789-abcd", "hf_masked0123-uvwx"),
    ] {
        escaped_forms_become_those_of_the_dummy(value, dummy);
    }
}

#[track_caller]
fn escaped_forms_become_those_of_the_dummy(value: &str, dummy: &str) {
    let scrubber = scrubber(&[(value, dummy)]);
    for ((name, form), (_, expected)) in encoded(value).into_iter().zip(encoded(dummy)) {
        let content = format!("[{form}]");
        for at in 0..=content.len() {
            let (one, other) = content.as_bytes().split_at(at);
            let clean = scrub(&scrubber, &[one, other]);
            let clean = text(&clean);
            if name.starts_with("base64") {
                assert_ne!(clean, content, "{name}");
                assert!(
                    name != "base64" || clean == format!("[{expected}]"),
                    "{name} {clean}"
                );
            } else {
                assert_eq!(clean, format!("[{expected}]"), "{name} at {at}");
            }
        }
    }
}

/// The references of HTML that stand for a character.
fn references(character: char) -> Vec<String> {
    let code = u32::from(character);
    let names = match character {
        '\'' => vec!["&apos;"],
        '&' => vec!["&amp;", "&AMP;", "&amp"],
        '<' => vec!["&lt;", "&LT;", "&lt"],
        '/' => vec!["&sol;"],
        '_' => vec!["&lowbar;", "&UnderBar;"],
        '%' => vec!["&percnt;"],
        '\\' => vec!["&bsol;"],
        _ => Vec::new(),
    };
    let mut all: Vec<String> = names.into_iter().map(str::to_owned).collect();
    all.extend([
        format!("&#{code};"),
        format!("&#0{code};"),
        format!("&#{code:07};"),
        format!("&#{code}"),
        format!("&#0{code}"),
        format!("&#x{code:x};"),
        format!("&#X{code:X};"),
        format!("&#x{code:04x};"),
        format!("&#X{code:06x};"),
        format!("&#x{code:x}"),
    ]);
    all
}

#[test]
fn b12_a_character_is_found_in_each_reference_of_html() {
    for value in [
        "'q/oted-val_ue-xyz",
        "x'q_oted<value/xyz&",
        "/_&zoted-value-xyz%",
        "&'<oted-value-xyz\\",
        "ghp_zoted-value-xyz",
    ] {
        let dummy = "m".repeat(value.len());
        let scrubber = scrubber(&[(value, &dummy)]);
        for (at, character) in value.char_indices() {
            // Others among the first are found only behind one that is encoded too.
            if escapes::is_unreserved(character) && (1..4).contains(&at) {
                continue;
            }
            let is_digit = |next: char| next.is_ascii_hexdigit();
            for reference in references(character) {
                // The digit would belong to the number.
                if !reference.ends_with(';') && value[at + 1..].starts_with(is_digit) {
                    continue;
                }
                let form = format!("{}{reference}{}", &value[..at], &value[at + 1..]);
                for (before, after) in [("", ""), ("[", ""), ("", "\""), ("(", ") end")] {
                    let content = format!("{before}{form}{after}");
                    for split in 0..=content.len() {
                        let (one, other) = content.as_bytes().split_at(split);
                        let clean = scrub(&scrubber, &[one, other]);
                        let clean = text(&clean);
                        let inside = &clean[before.len()..clean.len() - after.len()];
                        assert!(
                            inside.starts_with("mmm") || inside.ends_with("mmm"),
                            "{content} {split} {clean}"
                        );
                        let left = value
                            .char_indices()
                            .skip(4)
                            .map(|(at, _)| &value[at - 4..at]);
                        for part in left.filter(|part| !part.contains('m')) {
                            assert!(!clean.contains(part), "{content} {split} {clean}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn b12_a_value_that_ends_like_an_escape_begins_is_found_at_the_end() {
    for end in ["&", "%", "\\", "&&", "%2", "\\x", "&a", "&#3"] {
        let value = format!("value-with/end{end}");
        let dummy = format!("dummy-with/end{end}");
        let scrubber = scrubber(&[(&value, &dummy)]);
        let content = value.replace('/', "%2F");
        for at in 0..=content.len() {
            let (one, other) = content.as_bytes().split_at(at);
            let clean = scrub(&scrubber, &[one, other]);
            assert_eq!(text(&clean), dummy.replace('/', "%2F"), "{value} {at}");
        }
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
    for (name, form) in encoded(VALUE) {
        let form = form.as_bytes();
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
                            "{name} {right} {length} {before:?} {after:?}"
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
fn b12_the_end_of_an_escaped_character_is_held_back() {
    let scrubber = scrubber(&[(VALUE, DUMMY)]);
    for (piece, at_once) in [
        (r#"x \""#, 2),
        (r"x \'", 2),
        ("x &amp;", 2),
        ("x &#x2b;", 2),
        (r#"x ""#, 3),
        ("x amp;", 6),
    ] {
        let sent = sent(&scrubber, &[piece.as_bytes()]);
        assert_eq!(
            sent[0].iter().map(Bytes::len).sum::<usize>(),
            at_once,
            "{piece}"
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
fn b12_a_value_that_is_refreshed_in_the_middle_of_an_answer_is_found_at_every_split() {
    let renewed = "sk-proj-UmVuZXdlZC1iYXotcXV4";
    let other = DUMMY.replace("masked", "marked");
    let earlier = scrubber(&[(VALUE, DUMMY)]);
    let content = format!("data: {VALUE} {renewed}");
    let expected = content.replace(VALUE, DUMMY).replace(renewed, &other);
    for at in 0..=content.len() {
        let current = CurrentScrubber::new(Scrubber::new([(VALUE, DUMMY)]));
        let mut stream = ScrubbedStream::new(Arc::clone(&earlier));
        let mut clean = Vec::new();
        let mut send = |piece: Bytes| clean.extend_from_slice(&piece);
        let (one, next) = content.as_bytes().split_at(at);
        stream.push(Bytes::copy_from_slice(one), &mut send);
        current.replace(Scrubber::new([(renewed, &*other), (VALUE, DUMMY)]));
        stream.follow(&current);
        if !next.is_empty() {
            stream.push(Bytes::copy_from_slice(next), &mut send);
        }
        stream.finish(&mut send);
        assert_eq!(text(&clean), expected, "{at}");
    }
}

#[test]
fn b12_each_byte_costs_bounded_steps_in_pieces_of_any_size() {
    let value = |number: usize| {
        let each = (0..400).map(|at| format!("{:x}", at * at * 977 + number));
        each.collect::<String>()
    };
    let (value, dummy) = (value(1), value(2));
    let scrubber = scrubber(&[(&value, &dummy)]);
    let mut escaped = Vec::new();
    for character in value.chars() {
        escapes::write(
            character,
            Written::Percent(escapes::Digits::Lower),
            &mut escaped,
        );
    }
    let escaped = String::from_utf8(escaped).expect("text");
    let half = value.len() / 2;
    for content in [
        // Incomplete for long, found and held back for long, and a token without end.
        format!("[{value}]"),
        format!("[{escaped}]"),
        format!("{value}{}", "x".repeat(4 * value.len())),
        "x".repeat(20 * value.len()),
        value[..half].repeat(4),
    ] {
        for size in [1, 2, 50] {
            let pieces: Vec<&[u8]> = content.as_bytes().chunks(size).collect();
            let steps = steps_of(|| {
                scrub(&scrubber, &pieces);
            });
            assert!(steps < 6 * content.len(), "{steps} {}", content.len());
        }
    }
}

#[test]
fn b12_values_that_begin_alike_are_compared_together() {
    let (begin, half) = ("github_pat_11ABCDEFG0_aBcD", "aBcD");
    for begin in [begin, half] {
        let pairs: Vec<(String, String)> = (0..192)
            .map(|number| {
                let rest = format!("{:08x}", 0x9e37_79b1_u32.wrapping_mul(number));
                (format!("{begin}{rest}{number:032}"), format!("<{number}>"))
            })
            .collect();
        let borrowed: Vec<(&str, &str)> = pairs.iter().map(|(v, d)| (&**v, &**d)).collect();
        let scrubber = scrubber(&borrowed);
        let mut escaped = Vec::new();
        for character in begin.chars() {
            escapes::write(
                character,
                Written::Percent(escapes::Digits::Lower),
                &mut escaped,
            );
        }
        let escaped = String::from_utf8(escaped).expect("text");
        for content in [begin.repeat(500), escaped.repeat(500)] {
            for size in [1, 50, 16 << 10] {
                let pieces: Vec<&[u8]> = content.as_bytes().chunks(size).collect();
                let steps = steps_of(|| {
                    assert_eq!(text(&scrub(&scrubber, &pieces)), content);
                });
                assert!(steps < 16 * content.len(), "{steps} {}", content.len());
            }
        }
        for (value, dummy) in &borrowed {
            assert_eq!(text(&scrub(&scrubber, &[value.as_bytes()])), *dummy);
        }
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
    fn b12_pieces_are_sent_as_far_as_the_whole_content_would_be(
        values in prop::collection::vec("[ab\"&;]{8,10}", 1..4),
        pieces in prop::collection::vec("(a|b|b|;|&amp;|&quot;|%62|\\\\\"|\"| ){0,9}", 0..12),
    ) {
        let pairs: Vec<(String, String)> = values
            .iter()
            .enumerate()
            .map(|(number, value)| (value.clone(), format!("<{number}>")))
            .collect();
        let borrowed: Vec<(&str, &str)> = pairs.iter().map(|(v, d)| (&**v, &**d)).collect();
        let scrubber = scrubber(&borrowed);
        let mut stream = ScrubbedStream::new(Arc::clone(&scrubber));
        let (mut whole, mut clean) = (Vec::new(), Vec::new());
        for piece in pieces {
            whole.extend_from_slice(piece.as_bytes());
            stream.push(Bytes::from(piece), |piece| clean.extend_from_slice(&piece));
            // The twin searches from the beginning each time.
            let mut expected = Vec::new();
            ScrubbedStream::new(Arc::clone(&scrubber)).push(
                Bytes::copy_from_slice(&whole),
                |piece| expected.extend_from_slice(&piece),
            );
            prop_assert_eq!(text(&clean), text(&expected), "{:?}", text(&whole));
        }
    }

    #[test]
    fn b12_no_form_of_a_value_survives_any_split(
        value in "[A-Za-z0-9/+=_.-]{8,40}",
        noise in prop::collection::vec(any::<u8>(), 0..5),
        form in 0usize..27,
        cuts in prop::collection::vec(0usize..400, 0..6),
    ) {
        let masked = |c: char| if c.is_ascii_alphanumeric() { '!' } else { c };
        let dummy: String = value.chars().map(masked).collect::<String>().replace('!', "m");
        let scrubber = scrubber(&[(&value, &dummy)]);
        let number = form;
        let (_, form) = encoded(&value).swap_remove(number);
        prop_assume!(form != encoded(&dummy).swap_remove(number).1);
        let form = form.into_bytes();
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
        if scrubber.preserves_length() {
            prop_assert_eq!(clean.len(), content.len());
        }
    }

    #[test]
    fn b12_a_value_is_found_in_any_mixture_of_forms(
        value in "[ -$'-*,-\\[\\]-~п😀]{8,24}",
        choices in prop::collection::vec(any::<prop::sample::Index>(), 24),
        // Without characters that begin another form.
        before in "[ -$'-\\[\\]-~]{0,12}",
        cuts in prop::collection::vec(0usize..300, 0..6),
    ) {
        prop_assume!(value.chars().filter(|c| escapes::is_unreserved(*c)).count() > 4);
        let masked = |c: char| if escapes::is_unreserved(c) { 'm' } else { c };
        let dummy: String = value.chars().map(masked).collect();
        prop_assume!(value != dummy);
        let (mut content, mut expected) = (before.clone().into_bytes(), before.into_bytes());
        for (character, choice) in value.chars().zip(&choices) {
            let mut forms = escapes::forms(character, false);
            if !character.is_ascii() {
                forms.truncate(2);
            }
            let form = &forms[choice.index(forms.len())];
            content.extend_from_slice(form);
            match masked(character) {
                same if same == character => expected.extend_from_slice(form),
                other => expected.push(u8::try_from(other).expect("ASCII")),
            }
        }
        content.extend_from_slice(b"; end");
        expected.extend_from_slice(b"; end");
        let scrubber = scrubber(&[(&value, &dummy)]);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(content.len())).collect();
        cuts.sort_unstable();
        cuts.push(content.len());
        let mut from = 0;
        let mut pieces = Vec::new();
        for cut in cuts {
            pieces.push(&content[from..cut]);
            from = cut;
        }
        prop_assert_eq!(scrub(&scrubber, &pieces), expected.clone());
        prop_assert_eq!(scrub(&scrubber, &[&content]), expected);
    }
}
