//! Times in RFC 3339, in UTC. They are written digit by digit, because each event has one.

use std::fmt;
use std::ops::Range;

use time::{OffsetDateTime, UtcOffset};

/// Shows a time of the years 0 to 9999 in RFC 3339: `2026-11-30T02:19:00.065Z`.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339 {
    time: OffsetDateTime,
    /// Digits after the point, at most six.
    digits: usize,
}

impl Rfc3339 {
    /// With three digits after the point.
    pub fn milliseconds(time: OffsetDateTime) -> Self {
        Self { time, digits: 3 }
    }

    /// With six digits after the point.
    pub fn microseconds(time: OffsetDateTime) -> Self {
        Self { time, digits: 6 }
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.time.to_offset(UtcOffset::UTC);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let mut put = |place: Range<usize>, mut number: u32| {
            for digit in text[place].iter_mut().rev() {
                *digit = b"0123456789"[(number % 10) as usize];
                number /= 10;
            }
        };
        put(0..4, time.year().unsigned_abs());
        put(5..7, u8::from(time.month()).into());
        put(8..10, time.day().into());
        put(11..13, time.hour().into());
        put(14..16, time.minute().into());
        put(17..19, time.second().into());
        put(20..26, time.microsecond());
        let end = 20 + self.digits;
        text[end] = b'Z';
        f.write_str(std::str::from_utf8(&text[..=end]).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::format_description::StaticFormatDescription;
    use time::macros::format_description;

    use super::*;

    /// The same, by the formatter of the crate `time`.
    const MILLISECONDS: StaticFormatDescription =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    const MICROSECONDS: StaticFormatDescription =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

    proptest! {
        #[test]
        fn r3_a_time_is_rfc_3339_in_utc(
            seconds in 0_i64..253_402_300_800,
            nanoseconds in 0_i64..1_000_000_000,
        ) {
            let time = OffsetDateTime::from_unix_timestamp(seconds).expect("a time");
            let time = time + time::Duration::nanoseconds(nanoseconds);
            let twin = time.format(MILLISECONDS).expect("text");
            prop_assert_eq!(Rfc3339::milliseconds(time).to_string(), twin);
            let twin = time.format(MICROSECONDS).expect("text");
            prop_assert_eq!(Rfc3339::microseconds(time).to_string(), twin);
        }
    }
}
