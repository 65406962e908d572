//! The work for each byte of content.

use super::super::super::value_search::tests::{copied_by, steps_of};
use super::*;

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
fn b12_a_value_with_one_escaped_character_is_replaced_in_bounded_steps() {
    let each = (0..900).map(|at| format!("{:x}", at * at * 977));
    let value: String = each.collect::<String>() + "/end";
    let dummy = "m".repeat(value.len() - 4) + "/end";
    let scrubber = scrubber(&[(&value, &dummy)]);
    let base64 = STANDARD.encode(&value).replacen('O', "%4F", 1);
    for content in [
        value.replace('/', "%2F"),
        format!("[{}]", value.replace('/', r"\/")),
        base64,
    ] {
        let copied = copied_by(|| {
            let clean = scrub(&scrubber, &[content.as_bytes()]);
            assert!(!text(&clean).contains(&value[8..40]));
        });
        assert!(copied > content.len(), "{copied} {}", content.len());
        assert!(copied < 32 * content.len(), "{copied} {}", content.len());
    }
}
