//! Values in every form of common encoders.

use super::super::super::encodings::url_safe;
use super::*;

/// The forms in which the encoders of common languages write a text.
pub(super) fn encoded(text: &str) -> Vec<(&'static str, String)> {
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

/// Writes a text in one form.
type Encoder<'a> = &'a dyn Fn(&str) -> String;

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

/// Base64 of this value has every character of both alphabets that URLs encode.
const PUNCTUATED: &str = "key~~~?>ab~?>cd~~>xyz?";
const PUNCTUATED_DUMMY: &str = "key~~~?>mn~?>op~~>qrs?";

#[test]
fn b12_base64_that_is_percent_encoded_again_becomes_that_of_the_dummy() {
    let scrubber = scrubber(&[(PUNCTUATED, PUNCTUATED_DUMMY)]);
    let upper = |c: char| format!("%{:02X}", u32::from(c));
    let lower = |c: char| format!("%{:02x}", u32::from(c));
    let punctuation = |c: char| match c {
        '+' | '/' | '=' | '-' | '_' => upper(c),
        other => other.into(),
    };
    let first = |text: &str| format!("{}{}", upper(text.chars().next().expect("one")), &text[1..]);
    let each = |text: &str, write: &dyn Fn(char) -> String| text.chars().map(write).collect();
    let encoders: [(&str, Encoder<'_>); 4] = [
        ("wholly", &|text| each(text, &upper)),
        ("wholly, small letters", &|text| each(text, &lower)),
        ("its punctuation", &|text| each(text, &punctuation)),
        ("its first character", &first),
    ];
    for before in ["", "x", "xy", "me:", "user1:"] {
        for after in ["", "~", ":x"] {
            let (value, dummy) = (
                format!("{before}{PUNCTUATED}{after}"),
                format!("{before}{PUNCTUATED_DUMMY}{after}"),
            );
            let encoded = |text: &str| [STANDARD.encode(text), URL_SAFE_NO_PAD.encode(text)];
            for (value, dummy) in encoded(&value).into_iter().zip(encoded(&dummy)) {
                // In the middle of a token, its first character is that of other bytes.
                for (name, encode) in &encoders {
                    if *name == "its first character" && !before.is_empty() {
                        continue;
                    }
                    let content = format!("[{}]", encode(&value));
                    for at in 0..=content.len() {
                        let (one, other) = content.as_bytes().split_at(at);
                        let clean = scrub(&scrubber, &[one, other]);
                        let decoded = escapes::without_percent(text(&clean));
                        let decoded = decoded.unwrap_or_else(|| text(&clean).to_owned());
                        assert_eq!(decoded, format!("[{dummy}]"), "{name} {content} {at}");
                    }
                }
            }
        }
    }
}

#[test]
fn b12_base64_of_which_each_character_is_a_number_does_not_pass() {
    let scrubber = scrubber(&[(PUNCTUATED, PUNCTUATED_DUMMY)]);
    let forms: [fn(u32) -> String; 5] = [
        |code| format!("\\u{code:04x}"),
        |code| format!("\\x{code:02X}"),
        |code| format!("&#{code};"),
        |code| format!("&#x{code:x};"),
        |code| format!("&#X{code:04X};"),
    ];
    for place in 0..3 {
        for form in forms {
            let write = |text: &str| text.chars().map(|c| form(c.into())).collect::<String>();
            for value in [
                base64_at(PUNCTUATED.as_bytes(), place).to_string(),
                url_safe(&base64_at(PUNCTUATED.as_bytes(), place)),
            ] {
                let content = format!("[{}]", write(&value));
                let clean = scrub(&scrubber, &[content.as_bytes()]);
                assert_eq!(clean.len(), content.len(), "{content}");
                // The part of the value that the dummy does not repeat.
                let middle = write(&value[12..16]);
                assert!(!text(&clean).contains(&middle), "{content}");
            }
        }
    }
}

#[test]
fn b12_a_value_is_found_in_the_name_of_a_field_in_each_form() {
    let value = "Sk-Key_Zm9v~mFyLWJh";
    let scrubber = scrubber(&[(value, "sk-key_masked")]);
    let percent = |text: &str| {
        let escaped: Vec<String> = text.bytes().map(|b| format!("%{b:02x}")).collect();
        escaped.concat()
    };
    let base64 = STANDARD.encode(format!("me:{value}"));
    let url_safe = URL_SAFE_NO_PAD.encode(format!("me:{value}"));
    for text in [
        value.to_owned(),
        value.replace('_', "%5F"),
        percent(value),
        percent(&value.to_lowercase()),
        base64.trim_end_matches('=').to_owned(),
        percent(&base64),
        url_safe.clone(),
        percent(&url_safe),
    ] {
        let name = format!("x-{text}-end").to_ascii_lowercase();
        assert!(scrubber.finds_in_name(&name), "{name}");
    }
    for name in ["content-length", "x-%41%zz%", "sk-key_zm9v~mfylwj"] {
        assert!(!scrubber.finds_in_name(name), "{name}");
    }
}

proptest! {
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
