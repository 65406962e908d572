//! Numbers, sizes, times and identifiers as people read them. JSON has them whole.

use std::time::Duration;

use codex_network_config::duration_text;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Sequence numbers are shown by their last digits. They are a million refusals apart then.
pub(crate) const SHORT_SEQUENCE: u64 = 1_000_000;

/// `1 rule`, `2,000 rules`.
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{} {many}", grouped(count as u64)),
    }
}

/// A number in groups of three digits: `12,345`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A size in its largest unit: `64 KiB`, `1.5 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let Some((unit, one)) = UNITS.into_iter().find(|(_, one)| bytes >= *one) else {
        return counted(
            usize::try_from(bytes).unwrap_or(usize::MAX),
            "byte",
            "bytes",
        );
    };
    match (bytes % one) * 10 / one {
        0 => format!("{} {unit}", bytes / one),
        tenths => format!("{}.{tenths} {unit}", bytes / one),
    }
}

/// A time span in its two largest units: `2d 3h`, `4m`, `7s`.
pub(crate) fn span(seconds: u64) -> String {
    let exact = match seconds {
        0..3600 => seconds,
        3600..86_400 => seconds - seconds % 60,
        _ => seconds - seconds % 3600,
    };
    duration_text(Duration::from_secs(exact))
}

/// How long ago a time was, by this machine's clock.
pub(crate) fn ago(unix_seconds: i64) -> String {
    let passed = OffsetDateTime::now_utc().unix_timestamp() - unix_seconds;
    span(u64::try_from(passed).unwrap_or(0))
}

/// A time in UTC, in the form of RFC 3339.
pub(crate) fn utc(unix_seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix_seconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| unix_seconds.to_string())
}

/// The last digits of a sequence number.
pub(crate) fn short_sequence(sequence: u64) -> String {
    if sequence < SHORT_SEQUENCE {
        return sequence.to_string();
    }
    format!("{:06}", sequence % SHORT_SEQUENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k1_spans_are_shown_in_two_units() {
        let shown = [0, 59, 60, 3599, 3600, 3661, 86399, 86400, 200_000].map(span);
        assert_eq!(
            shown,
            [
                "0s", "59s", "1m", "59m 59s", "1h", "1h 1m", "23h 59m", "1d", "2d 7h"
            ]
        );
    }

    #[test]
    fn k1_numbers_have_groups_and_sizes_have_units() {
        let shown = [0, 7, 999, 1000, 12_345, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
        let shown = [0, 1, 1023, 1024, 65536, 1_600_000, 3 << 30].map(size);
        assert_eq!(
            shown,
            [
                "0 bytes",
                "1 byte",
                "1,023 bytes",
                "1 KiB",
                "64 KiB",
                "1.5 MiB",
                "3 GiB"
            ]
        );
        assert_eq!(counted(1, "rule", "rules"), "1 rule");
        assert_eq!(counted(2000, "rule", "rules"), "2,000 rules");
    }

    #[test]
    fn k1_sequence_numbers_are_short() {
        let shown = [0, 7, 999_999, 1_000_000, 1_839_083_467_192_321].map(short_sequence);
        assert_eq!(shown, ["0", "7", "999999", "000000", "192321"]);
    }

    #[test]
    fn k1_times_are_in_utc() {
        assert_eq!(utc(1_700_000_000), "2023-11-14T22:13:20Z");
    }
}
