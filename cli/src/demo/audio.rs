//! A short real audio file, made in code: the chime that stations play before a bulletin.

/// Samples a second.
const RATE: u32 = 16_000;
/// Frequencies of the chime's three tones, Hz.
const TONES: [f64; 3] = [523.25, 659.25, 783.99];
/// Length of one tone, seconds.
const TONE_SECONDS: f64 = 0.7;

/// A mono 16-bit PCM WAV of `seconds` seconds; `seed` shifts the pitch, so that two bulletins differ.
pub(crate) fn chime(seconds: u32, seed: u32) -> Vec<u8> {
    let samples = RATE * seconds;
    let bytes = samples * 2;
    let mut wav = Vec::with_capacity(44 + bytes as usize);
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(36 + bytes).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt ");
    wav.extend_from_slice(&16u32.to_le_bytes());
    wav.extend_from_slice(&1u16.to_le_bytes()); // PCM
    wav.extend_from_slice(&1u16.to_le_bytes()); // mono
    wav.extend_from_slice(&RATE.to_le_bytes());
    wav.extend_from_slice(&(RATE * 2).to_le_bytes());
    wav.extend_from_slice(&2u16.to_le_bytes());
    wav.extend_from_slice(&16u16.to_le_bytes());
    wav.extend_from_slice(b"data");
    wav.extend_from_slice(&bytes.to_le_bytes());
    for sample in 0..samples {
        let time = f64::from(sample) / f64::from(RATE);
        let tone = TONES[(time / TONE_SECONDS) as usize % TONES.len()] * (1.0 + f64::from(seed) * 0.05);
        let fade = 1.0 - (time % TONE_SECONDS) / TONE_SECONDS;
        let value = (time * tone * std::f64::consts::TAU).sin() * fade * f64::from(i16::MAX) * 0.4;
        wav.extend_from_slice(&(value as i16).to_le_bytes());
    }
    wav
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_says_how_long_it_is() {
        let wav = chime(2, 0);
        assert_eq!(wav.len(), 44 + 2 * 2 * RATE as usize);
        assert_eq!(&wav[..4], b"RIFF");
        assert_eq!(u32::from_le_bytes([wav[4], wav[5], wav[6], wav[7]]) as usize, wav.len() - 8);
        assert_ne!(chime(1, 0), chime(1, 1));
    }
}
