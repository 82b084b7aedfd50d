//! Numbers as people in Vietnam type and read them: `1.250.000`, `12,5`. Whole numbers throughout, no floats.

/// Why a text is no such number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberError {
    NotANumber,
    TooManyDecimals,
    TooLarge,
}

/// Most digits before the decimal sign: 999 trillion, more than any budget in VND, and far from overflow.
const MAX_DIGITS: usize = 15;

/// Reads `text` as a number with at most `decimals` decimals, scaled by ten to that power.
///
/// With no decimals allowed, a dot or comma before groups of three digits separates thousands. With decimals allowed,
/// one dot or comma is the decimal sign: `1.250` hours is refused rather than guessed at.
pub(crate) fn parse_scaled(text: &str, decimals: u32) -> Result<i64, NumberError> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) || !digits.ends_with(|c: char| c.is_ascii_digit()) {
        return Err(NumberError::NotANumber);
    }
    let (whole, fraction) = split(digits, decimals)?;
    let whole: String = whole.chars().filter(char::is_ascii_digit).collect();
    if whole.trim_start_matches('0').len() > MAX_DIGITS {
        return Err(NumberError::TooLarge);
    }
    let mut value: i64 = whole.parse().map_err(|_| NumberError::TooLarge)?;
    let mut places = fraction.bytes();
    for _ in 0..decimals {
        value = value * 10 + places.next().map_or(0, |digit| i64::from(digit - b'0'));
    }
    Ok(if negative { -value } else { value })
}

/// Whole part (maybe with separators) and decimals.
fn split(digits: &str, decimals: u32) -> Result<(&str, &str), NumberError> {
    let last = digits.rfind(['.', ',']);
    let Some(at) = last else {
        return if grouped(digits, ' ') { Ok((digits, "")) } else { Err(NumberError::NotANumber) };
    };
    let (whole, fraction) = (&digits[..at], &digits[at + 1..]);
    let sign = char::from(digits.as_bytes()[at]);
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NumberError::NotANumber);
    }
    if decimals == 0 && grouped(digits, sign) {
        return Ok((digits, ""));
    }
    let thousands = if sign == ',' { '.' } else { ',' };
    if !(grouped(whole, thousands) || grouped(whole, ' ')) {
        // "1.250.000" where decimals are allowed: separators alone, unmistakable.
        return if grouped(digits, sign) { Ok((digits, "")) } else { Err(NumberError::NotANumber) };
    }
    if fraction.len() <= decimals as usize || (decimals == 0 && fraction.bytes().all(|byte| byte == b'0')) {
        return Ok((whole, if decimals == 0 { "" } else { fraction }));
    }
    Err(NumberError::TooManyDecimals)
}

/// Plain digits, or digits in groups of three.
fn grouped(text: &str, separator: char) -> bool {
    let is_digits = |group: &str| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit());
    let mut groups = text.split(|c: char| c == separator || (separator == ' ' && c.is_whitespace()));
    let Some(first) = groups.next() else { return false };
    let mut single = true;
    let rest = groups.all(|group| {
        single = false;
        group.len() == 3 && is_digits(group)
    });
    is_digits(first) && rest && (single || first.len() <= 3)
}

/// `1.250.000`, as Vietnamese writes it.
pub(crate) fn group_vi(value: i64) -> String {
    group(value, '.')
}

/// `1,250,000`.
pub(crate) fn group_en(value: i64) -> String {
    group(value, ',')
}

fn group(value: i64, separator: char) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut out = String::from(if value < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(separator);
        }
        out.push(digit);
    }
    out
}

/// A number of hundredths as `12,5` (or `12.5`), without idle zeros.
pub(crate) fn hundredths(value: i64, vietnamese: bool) -> String {
    let whole = value / 100;
    let rest = (value % 100).abs();
    let sign = if value < 0 && whole == 0 { "-" } else { "" };
    let whole = if vietnamese { group_vi(whole) } else { group_en(whole) };
    let mark = if vietnamese { ',' } else { '.' };
    match rest {
        0 => format!("{sign}{whole}"),
        rest if rest % 10 == 0 => format!("{sign}{whole}{mark}{}", rest / 10),
        rest => format!("{sign}{whole}{mark}{rest:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_type_them() {
        for (text, decimals, expected) in [
            ("12", 0, Ok(12)),
            ("12.0", 0, Ok(12)),
            ("-3", 0, Ok(-3)),
            ("1.250.000", 0, Ok(1_250_000)),
            ("1,250,000", 0, Ok(1_250_000)),
            ("1 250 000", 0, Ok(1_250_000)),
            ("12.000", 0, Ok(12_000)),
            ("12,5", 0, Err(NumberError::TooManyDecimals)),
            ("12,5", 2, Ok(1_250)),
            ("12.55", 2, Ok(1_255)),
            ("1.250", 2, Err(NumberError::TooManyDecimals)),
            ("1.250,5", 2, Ok(125_050)),
            ("1.250.000", 2, Ok(125_000_000)),
            ("-0,5", 2, Ok(-50)),
            ("1e5", 0, Err(NumberError::NotANumber)),
            ("12 giờ", 2, Err(NumberError::NotANumber)),
            ("", 2, Err(NumberError::NotANumber)),
            (".5", 2, Err(NumberError::NotANumber)),
            ("1..5", 2, Err(NumberError::NotANumber)),
            ("1.25.000", 0, Err(NumberError::NotANumber)),
            ("9999999999999999", 0, Err(NumberError::TooLarge)),
        ] {
            assert_eq!(parse_scaled(text, decimals), expected, "{text}");
        }
    }

    #[test]
    fn numbers_are_shown_as_people_read_them() {
        assert_eq!(group_vi(-1_250_000), "-1.250.000");
        assert_eq!(group_en(999), "999");
        assert_eq!(hundredths(125_050, true), "1.250,5");
        assert_eq!(hundredths(-50, false), "-0.5");
        assert_eq!(hundredths(105, true), "1,05");
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics_and_shown_numbers_read_back(text in ".{0,24}", value in -1_000_000_000_i64..1_000_000_000) {
            let _ = parse_scaled(&text, 0);
            let _ = parse_scaled(&text, 2);
            proptest::prop_assert_eq!(parse_scaled(&group_vi(value), 0), Ok(value));
        }
    }
}
