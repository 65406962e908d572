//! Durations as people write them: `"250ms"`, `"10s"`, `"1m30s"` or `"1m 30s"`; and the one form in
//! which the proxy shows them (SPEC C5).

use std::time::Duration;

/// The longest accepted duration; a longer one is a typing error.
const MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The units, the largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", 24 * 60 * 60 * 1000),
    ("h", 60 * 60 * 1000),
    ("m", 60 * 1000),
    ("s", 1000),
    ("ms", 1),
];

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// There is no number or no unit.
    #[error("a duration needs a number and a unit")]
    Shape,
    /// The last number has no unit.
    #[error("a duration needs a unit: `ms`, `s`, `m`, `h` or `d`")]
    NoUnit,
    /// A unit that does not exist.
    #[error("the units of a duration are `ms`, `s`, `m`, `h` and `d`")]
    UnknownUnit,
    /// A larger unit behind a smaller one, or a unit twice.
    #[error("the units of a duration go from large to small, each at most once")]
    Order,
    /// More than 365 days.
    #[error("a duration is at most 365 days")]
    TooLong,
}

/// Writes a duration exactly to the millisecond, in the form that settings have: `1h 30m`, `250ms`.
/// Parts that are zero are left out.
pub fn duration_text(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    for (unit, millis) in UNITS {
        if rest >= millis {
            parts.push(format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    if parts.is_empty() {
        return "0s".to_owned();
    }
    parts.join(" ")
}

/// Reads whole numbers with units, from the largest unit to the smallest, with at most one space
/// between two parts.
///
/// # Errors
///
/// A [`DurationError`] for any other text.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(DurationError::Shape);
    }
    while !rest.is_empty() {
        let (number, behind) = split_at_end(rest, |byte| byte.is_ascii_digit());
        let (unit, behind) = split_at_end(behind, |byte| byte.is_ascii_alphabetic());
        if number.is_empty() {
            return Err(DurationError::Shape);
        }
        if unit.is_empty() {
            // Nothing follows, or something that is neither a number nor a unit.
            return Err(match behind {
                "" => DurationError::NoUnit,
                _ => DurationError::Shape,
            });
        }
        if UNITS.iter().all(|(known, _)| *known != unit) {
            return Err(DurationError::UnknownUnit);
        }
        let (_, millis) = units
            .find(|(known, _)| *known == unit)
            .ok_or(DurationError::Order)?;
        let part = number
            .parse()
            .ok()
            .and_then(|number: u64| number.checked_mul(*millis))
            .ok_or(DurationError::TooLong)?;
        total = total.saturating_add(Duration::from_millis(part));
        rest = match behind.strip_prefix(' ') {
            Some("") => return Err(DurationError::Shape),
            Some(next) => next,
            None => behind,
        };
    }
    if total > MAX {
        return Err(DurationError::TooLong);
    }
    Ok(total)
}

/// Splits at the first byte that does not fit.
fn split_at_end(text: &str, fits: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !fits(byte));
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c5_durations_are_whole_numbers_with_units() {
        let good: [(&str, u64); 14] = [
            ("0s", 0),
            ("1ms", 1),
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
            ("1m30s", 90_000),
            ("1h1ms", 3_600_001),
            ("1d2h3m4s5ms", 93_784_005),
            ("1h 30m", 5_400_000),
            ("1d 2h3m 4s 5ms", 93_784_005),
            ("007s", 7000),
            ("365d", 31_536_000_000),
        ];
        for (text, millis) in good {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        let bad = [
            ("", DurationError::Shape),
            ("s", DurationError::Shape),
            ("10", DurationError::NoUnit),
            ("1h30", DurationError::NoUnit),
            ("-1s", DurationError::Shape),
            ("+1s", DurationError::Shape),
            ("1.5s", DurationError::Shape),
            ("1 s", DurationError::Shape),
            (" 1s", DurationError::Shape),
            ("1s ", DurationError::Shape),
            ("1m  1s", DurationError::Shape),
            ("1m\t1s", DurationError::Shape),
            ("1µs", DurationError::Shape),
            ("1us", DurationError::UnknownUnit),
            ("1S", DurationError::UnknownUnit),
            ("1min", DurationError::UnknownUnit),
            ("10sec", DurationError::UnknownUnit),
            ("1s1h", DurationError::Order),
            ("1s1s", DurationError::Order),
            ("1ms1s", DurationError::Order),
            ("366d", DurationError::TooLong),
            ("365d1ms", DurationError::TooLong),
            ("99999999999999999999s", DurationError::TooLong),
            ("18446744073709551615d", DurationError::TooLong),
        ];
        for (text, error) in bad {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn c5_durations_are_shown_in_the_form_in_which_they_are_read() {
        for (millis, text) in [
            (0, "0s"),
            (1, "1ms"),
            (250, "250ms"),
            (1500, "1s 500ms"),
            (10_000, "10s"),
            (90_000, "1m 30s"),
            (3_600_000, "1h"),
            (93_784_005, "1d 2h 3m 4s 5ms"),
        ] {
            let duration = Duration::from_millis(millis);
            assert_eq!(duration_text(duration), text);
            assert_eq!(parse(text), Ok(duration));
        }
        assert_eq!(duration_text(Duration::from_micros(1)), "0s");
    }
}
