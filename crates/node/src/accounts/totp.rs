//! One-time codes: RFC 6238 with SHA-1, 30 s and six digits, which is what authenticator apps do.

use std::fmt;

use ring::hmac;

use super::random;

/// How long a code is shown.
pub const STEP_SECONDS: i64 = 30;

/// How many steps a phone's clock may be off, either way.
const TOLERANCE: i64 = 1;
const DIGITS: usize = 6;
const MODULUS: u32 = 1_000_000;
/// RFC 4226 asks for 128 bits at least and recommends 160.
const MIN_SECRET_BYTES: usize = 16;
const NEW_SECRET_BYTES: usize = 20;
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The secret that a person's authenticator app and the node share.
#[derive(Clone)]
pub struct OtpSecret(hmac::Key);

impl OtpSecret {
    /// From base32 as apps show it: case, spaces, hyphens and padding do not matter. `None` if it is not base32 or
    /// shorter than 128 bits.
    pub fn from_base32(text: &str) -> Option<Self> {
        let bytes = decode_base32(text)?;
        (bytes.len() >= MIN_SECRET_BYTES).then(|| Self::from_bytes(&bytes))
    }

    /// A new secret in base32, for an accounts file and an app. `None` if the system gives no randomness.
    pub fn generate_base32() -> Option<String> {
        Some(encode_base32(&random::<NEW_SECRET_BYTES>()?))
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, bytes))
    }

    /// The code of a step, the number of 30 s spans since 1970.
    fn code(&self, step: i64) -> u32 {
        let tag = hmac::sign(&self.0, &step.to_be_bytes());
        let tag = tag.as_ref();
        // Dynamic truncation, RFC 4226 section 5.3; the offset is at most 15 and SHA-1 has 20 bytes.
        let offset = usize::from(tag[tag.len() - 1] & 0x0f);
        let word = u32::from_be_bytes([tag[offset], tag[offset + 1], tag[offset + 2], tag[offset + 3]]);
        word & 0x7fff_ffff
    }

    /// The code that an app shows at this time, for tests and for the demo's pretended phone.
    pub fn code_at(&self, now_ms: i64) -> String {
        format!("{:0DIGITS$}", self.code(step_at(now_ms)) % MODULUS)
    }

    /// The step that `code` belongs to, if it is good now and comes after `last_used`: a code that was seen over a
    /// shoulder is worth nothing once used.
    pub(super) fn accept(&self, code: &str, now_ms: i64, last_used: Option<i64>) -> Option<i64> {
        let code: String = code.chars().filter(|character| !character.is_whitespace()).collect();
        if code.len() != DIGITS || !code.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let code: u32 = code.parse().ok()?;
        let now = step_at(now_ms);
        (now - TOLERANCE..=now + TOLERANCE)
            .filter(|&step| last_used.is_none_or(|last| step > last))
            .find(|&step| self.code(step) % MODULUS == code)
    }
}

impl fmt::Debug for OtpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtpSecret(…)")
    }
}

fn step_at(now_ms: i64) -> i64 {
    now_ms.div_euclid(1_000 * STEP_SECONDS)
}

/// RFC 4648 base32.
fn decode_base32(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut buffer, mut bits) = (0_u32, 0_u32);
    for byte in text.trim_end_matches('=').bytes().filter(|byte| !matches!(byte, b' ' | b'-')) {
        let byte = byte.to_ascii_uppercase();
        let value = BASE32.iter().position(|&letter| letter == byte)?;
        buffer = (buffer << 5) | u32::try_from(value).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((buffer >> bits) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

fn encode_base32(bytes: &[u8]) -> String {
    let mut text = String::new();
    let (mut buffer, mut bits) = (0_u32, 0_u32);
    for &byte in bytes {
        buffer = (buffer << 8) | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(BASE32[(buffer >> bits) as usize & 31]));
        }
    }
    if bits > 0 {
        text.push(char::from(BASE32[(buffer << (5 - bits)) as usize & 31]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const RFC_SECRET: &[u8] = b"12345678901234567890";

    #[test]
    fn codes_match_rfc_6238() {
        let secret = OtpSecret::from_bytes(RFC_SECRET);
        for (seconds, expected) in [
            (59, 94_287_082),
            (1_111_111_109, 7_081_804),
            (1_111_111_111, 14_050_471),
            (1_234_567_890, 89_005_924),
            (2_000_000_000, 69_279_037),
            (20_000_000_000, 65_353_130),
        ] {
            assert_eq!(secret.code(step_at(seconds * 1_000)) % 100_000_000, expected, "{seconds}");
        }
        assert_eq!(secret.code_at(1_111_111_109_000), "081804");
    }

    #[test]
    fn base32_matches_rfc_4648() {
        for (bytes, text) in
            [("", ""), ("f", "MY"), ("fo", "MZXQ"), ("foo", "MZXW6"), ("foob", "MZXW6YQ"), ("foobar", "MZXW6YTBOI")]
        {
            assert_eq!(encode_base32(bytes.as_bytes()), text);
            assert_eq!(decode_base32(text).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(decode_base32("mzxw 6ytb-oi======").as_deref(), Some(&b"foobar"[..]));
        assert_eq!(decode_base32("MZX1"), None);
        assert!(OtpSecret::from_base32("MZXW6YTBOI").is_none(), "too short");
        let new = OtpSecret::generate_base32().expect("random");
        assert_eq!(new.len(), 32);
        assert!(OtpSecret::from_base32(&new).is_some());
    }

    #[test]
    fn a_code_is_good_for_a_neighbouring_step_and_only_once() {
        let secret = OtpSecret::from_bytes(RFC_SECRET);
        let now = 1_111_111_111_000;
        let step = step_at(now);
        for off in -1..=1 {
            let code = secret.code_at(now + off * 30_000);
            assert_eq!(secret.accept(&code, now, None), Some(step + off));
            assert_eq!(secret.accept(&code, now, Some(step + off)), None, "used");
        }
        for off in [-2, 2] {
            assert_eq!(secret.accept(&secret.code_at(now + off * 30_000), now, None), None);
        }
        let code = secret.code_at(now);
        assert_eq!(secret.accept(&format!(" {} {} ", &code[..3], &code[3..]), now, None), Some(step));
        for nonsense in ["", "1", "+50471", "0050471", "０５０４７１"] {
            assert_eq!(secret.accept(nonsense, now, None), None, "{nonsense}");
        }
    }
}
