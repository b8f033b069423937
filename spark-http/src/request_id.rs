//! The value of `x-request-id`: the client's own, or a new one.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Makes ids that no other instance, in this process or another, is likely to make.
///
/// An id is 32 hexadecimal digits: sixteen that are random per instance, then
/// sixteen that differ for every id of the instance. It identifies; it is not a secret.
#[derive(Debug)]
pub(crate) struct RequestIds {
    instance: [u8; 16],
    next: AtomicU64,
}

// === impl RequestIds ===

impl RequestIds {
    pub(crate) fn new() -> Self {
        // The standard library draws the keys of `RandomState` from the operating
        // system. Two hashes of one key are as unrelated as two random numbers.
        let random = RandomState::new();
        Self {
            instance: hex(random.hash_one(0_u64)),
            next: AtomicU64::new(random.hash_one(1_u64)),
        }
    }

    /// The client's id if it sent one and it is sane, otherwise a new one.
    pub(crate) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        let given = headers.get(X_REQUEST_ID).and_then(sane);
        given.unwrap_or_else(|| self.fresh())
    }

    pub(crate) fn fresh(&self) -> HeaderValue {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let mut digits = [0; 32];
        digits[..16].copy_from_slice(&self.instance);
        digits[16..].copy_from_slice(&hex(scatter(count)));
        // One allocation for all clones, where bytes that are copied take another one for the first clone.
        HeaderValue::from_maybe_shared(Bytes::from_owner(digits))
            .expect("hexadecimal digits are a header value")
    }
}

/// The client's id, if it is a sane one.
pub(crate) fn sane(id: &HeaderValue) -> Option<HeaderValue> {
    is_sane(id.as_bytes()).then(|| id.clone())
}

/// Goes to logs and back to the client, so: visible ASCII, and not too much of it.
fn is_sane(id: &[u8]) -> bool {
    (1..=128).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// The finaliser of splitmix64, a bijection: ids stay distinct, but do not tell
/// clients how many requests there were.
fn scatter(count: u64) -> u64 {
    let z = (count ^ (count >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn hex(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair.copy_from_slice(&PAIRS[usize::from(byte)]);
    }
    digits
}

/// Every byte in hexadecimal.
const PAIRS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 0xF]];
        byte += 1;
    }
    pairs
};
