//! Durations and sizes with their unit, as they are written in the configuration.
//!
//! A number without a unit is refused, because `5` has been taken for seconds by one reader and for milliseconds by
//! the next. Fractions, signs, spaces and exponents are refused as well: one value has few spellings.

use std::time::Duration;

/// What a duration must look like.
pub(super) const DURATION_FORM: &str = "a whole number directly followed by ms, s, m or h, such as 5s";
/// What a size must look like.
pub(super) const SIZE_FORM: &str = "a whole number directly followed by B, kB, KiB, MB, MiB, GB or GiB, such as 64KiB";

/// Milliseconds in each unit, largest first.
const DURATIONS: &[(&str, u64)] = &[("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// Bytes in each unit, binary ones and largest first: sizes are shown in the first that divides them.
const SIZES: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Why a text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnitFault {
    /// A number, and nothing behind it.
    NoUnit,
    /// Not of the form described.
    Malformed,
    /// Beyond 64 bits.
    TooLarge,
}

pub(super) fn duration(text: &str) -> Result<Duration, UnitFault> {
    quantity(text, DURATIONS).map(Duration::from_millis)
}

pub(super) fn size(text: &str) -> Result<u64, UnitFault> {
    quantity(text, SIZES)
}

/// A duration as one would write it.
pub(super) fn show_duration(duration: Duration) -> String {
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), DURATIONS, "s")
}

/// A size as one would write it.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, SIZES, "B")
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Result<u64, UnitFault> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or(UnitFault::Malformed)?;
    if number.is_empty() {
        return Err(UnitFault::Malformed);
    }
    if unit.is_empty() {
        return Err(UnitFault::NoUnit);
    }
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or(UnitFault::Malformed)?;
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor)).ok_or(UnitFault::TooLarge)
}

fn show(quantity: u64, units: &[(&str, u64)], unit_of_zero: &str) -> String {
    let whole = units.iter().find(|(_, factor)| quantity > 0 && quantity.is_multiple_of(*factor));
    whole.map_or(format!("0{unit_of_zero}"), |(unit, factor)| format!("{}{unit}", quantity / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_one_of_four_units() {
        for (text, milliseconds) in
            [("250ms", 250), ("0s", 0), ("5s", 5_000), ("007s", 7_000), ("7m", 420_000), ("2h", 7_200_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn a_size_has_a_binary_or_a_decimal_unit() {
        for (text, bytes) in [
            ("1B", 1),
            ("1kB", 1_000),
            ("64KiB", 65_536),
            ("1MB", 1_000_000),
            ("1MiB", 1_048_576),
            ("2GB", 2_000_000_000),
            ("4GiB", 4_294_967_296),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_number_without_a_unit_is_told_apart_from_nonsense() {
        assert_eq!((duration("5"), size("0")), (Err(UnitFault::NoUnit), Err(UnitFault::NoUnit)));
        for text in ["", "s", "5 s", " 5s", "-5s", "+5s", "1.5s", "1e3s", "5S", "5sec", "5d", "5µs", "٥s", "5s5s"] {
            assert_eq!(duration(text), Err(UnitFault::Malformed), "{text:?}");
        }
        for text in ["1KB", "1K", "1Mi", "1kb", "1 MiB", "0x10B", "1_000B", "1MIB"] {
            assert_eq!(size(text), Err(UnitFault::Malformed), "{text:?}");
        }
        let largest = u64::MAX;
        assert_eq!(size(&format!("{largest}B")), Ok(largest));
        assert_eq!(size(&format!("{largest}kB")), Err(UnitFault::TooLarge));
        assert_eq!(size(&format!("{largest}0B")), Err(UnitFault::TooLarge));
    }

    #[test]
    fn what_is_shown_can_be_read_back_and_is_short() {
        for text in ["0s", "250ms", "90s", "7m", "24h"] {
            assert_eq!(duration(text).map(show_duration).as_deref(), Ok(text));
        }
        for text in ["0B", "1B", "1KiB", "64KiB", "1MB", "2GiB", "247952B"] {
            assert_eq!(size(text).map(show_size).as_deref(), Ok(text));
        }
    }
}
