//! Batches as other people's software verifies them: DSSE envelopes in JSON.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use httt_wire::{Message as _, feed as pb};

use crate::{PAYLOAD_TYPE, Refusal, parse};

/// A sealed batch as a [DSSE v1](https://github.com/secure-systems-lab/dsse) envelope, one line of JSON: `payload` is
/// the batch's body, `keyid` the hexadecimal [`crate::KeyId`]. The signature is the one that the batch has; nothing is
/// signed anew.
///
/// # Errors
/// As [`parse`]: the bytes are no sealed batch.
pub fn dsse_envelope(sealed: &Bytes) -> Result<String, Refusal> {
    let key = parse(sealed.clone())?.key();
    let sealed = pb::SealedBatch::decode(sealed.clone()).map_err(|error| Refusal::Malformed(error.to_string()))?;
    let payload = BASE64_STANDARD.encode(&sealed.body);
    let signature = BASE64_STANDARD.encode(sealed.signature.unwrap_or_default().value);
    // Nothing in it needs escaping: base64, hexadecimal digits and a constant.
    Ok(format!(
        r#"{{"payload":"{payload}","payloadType":"{PAYLOAD_TYPE}","signatures":[{{"keyid":"{key}","sig":"{signature}"}}]}}"#
    ))
}
