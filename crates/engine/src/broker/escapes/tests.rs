//! Escapes in documents and in the values that are looked for.

use proptest::prelude::*;

use super::*;

#[test]
fn b12_a_character_is_read_in_each_form() {
    let upper = Digits::Upper;
    let lower = Digits::Lower;
    let (semicolon, open) = (ReferenceEnd::Semicolon, ReferenceEnd::Open);
    let (large, small) = (HexadecimalMark::Upper, HexadecimalMark::Lower);
    for (text, expected, reading) in [
        ("ab", 'a', Reading::Is(1, Written::Plainly)),
        ("+b", ' ', Reading::Is(1, Written::Plainly)),
        ("%2Fb", '/', Reading::Is(3, Written::Percent(upper))),
        ("%2fb", '/', Reading::Is(3, Written::Percent(lower))),
        ("%25", '%', Reading::Is(3, Written::Percent(upper))),
        ("%%", '%', Reading::Is(1, Written::Plainly)),
        ("%2", '%', Reading::Incomplete),
        ("%2", 'a', Reading::Incomplete),
        (r"\/", '/', Reading::Is(2, Written::Backslash)),
        (r"\\", '\\', Reading::Is(2, Written::Backslash)),
        (r"\_", '_', Reading::Is(2, Written::Backslash)),
        (r"\-", '-', Reading::Is(2, Written::Backslash)),
        (r"\-", '_', Reading::Differs),
        (r"\n", 'n', Reading::Differs),
        (r"\u002f", '/', Reading::Is(6, Written::Unicode(lower))),
        (r"\u00", '/', Reading::Incomplete),
        (r"\u043F", 'п', Reading::Is(6, Written::Unicode(upper))),
        (
            r"\ud83d\ude00",
            '😀',
            Reading::Is(12, Written::Unicode(lower)),
        ),
        (r"\ud83d\ude01", '😀', Reading::Differs),
        (r"\ud83d\u", '😀', Reading::Incomplete),
        (r"\ud83dx", '😀', Reading::Differs),
        (r"\x2F", '/', Reading::Is(4, Written::Byte(upper))),
        ("&amp;", '&', Reading::Is(5, Written::Named)),
        ("&am", '&', Reading::Incomplete),
        ("&am", '/', Reading::Differs),
        ("&amp", '&', Reading::Incomplete),
        ("&amp,", '&', Reading::Is(4, Written::Named)),
        ("&b", '&', Reading::Is(1, Written::Plainly)),
        ("&QUOT;", '"', Reading::Is(6, Written::Named)),
        ("&lowbar;", '_', Reading::Is(8, Written::Named)),
        ("&UnderBar;", '_', Reading::Is(10, Written::Named)),
        ("&commat;", '@', Reading::Is(8, Written::Named)),
        ("&commat;", ',', Reading::Differs),
        ("&comma,", ',', Reading::Differs),
        ("&#47;", '/', Reading::Is(5, Written::Decimal(2, semicolon))),
        (
            "&#047;",
            '/',
            Reading::Is(6, Written::Decimal(3, semicolon)),
        ),
        ("&#47,", '/', Reading::Is(4, Written::Decimal(2, open))),
        ("&#47", '/', Reading::Incomplete),
        ("&#470", '/', Reading::Incomplete),
        ("&#470,", '/', Reading::Differs),
        (
            "&#x2f;",
            '/',
            Reading::Is(6, Written::Hexadecimal(2, lower, small, semicolon)),
        ),
        (
            "&#X02F;",
            '/',
            Reading::Is(7, Written::Hexadecimal(3, upper, large, semicolon)),
        ),
        (
            "&#x2Fg",
            '/',
            Reading::Is(5, Written::Hexadecimal(2, upper, small, open)),
        ),
        ("&#x", '/', Reading::Incomplete),
        ("&#;", '/', Reading::Differs),
        (
            "&#0000047;",
            '/',
            Reading::Is(10, Written::Decimal(7, semicolon)),
        ),
        ("&#00000047;", '/', Reading::Differs),
        (
            "&#x00002f;",
            '/',
            Reading::Is(10, Written::Hexadecimal(6, lower, small, semicolon)),
        ),
        ("&#x000002f;", '/', Reading::Differs),
        ("%D0%bf", 'п', Reading::Is(6, Written::Percent(lower))),
        ("", 'a', Reading::Incomplete),
    ] {
        assert_eq!(
            read(text.as_bytes(), expected),
            reading,
            "{text} {expected}"
        );
    }
}

proptest! {
    #[test]
    fn b12_each_form_of_a_character_is_read_as_it(character in any::<char>(), rest in "[a-z]{0,3}") {
        prop_assume!(!matches!(character, '%' | '&' | '\\'));
        for form in forms(character, true) {
            let text = [&form[..], rest.as_bytes()].concat();
            let Reading::Is(length, _) = read(&text, character) else {
                // These numbers have other forms, which encoders write.
                prop_assert!(!character.is_ascii(), "{:?} {:?}", character, form);
                continue;
            };
            prop_assert!(candidates(&text).any(|one| one == character), "{:?}", form);
            prop_assert_eq!(length, form.len());
            prop_assert!(length <= MAX_WRITTEN_BYTES * character.len_utf8());
            for end in 0..length {
                let part = read(&text[..end], character);
                prop_assert_eq!(part, Reading::Incomplete, "{:?}", &text[..end]);
            }
        }
    }
}
