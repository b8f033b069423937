//! How names are hashed: with SipHash-1-3 under random keys, as the standard library's maps do, since
//! names come from networks and could be chosen to collide. A name is hashed whole, in one step; the
//! standard library's hasher takes whatever comes piece by piece, and keeps account of the pieces.

use std::hash::{BuildHasher, Hasher, RandomState};

use siphasher::sip::SipHasher13;

/// Makes hashers of names, with keys of its own.
#[derive(Clone)]
pub(crate) struct NameHashing(SipHasher13);

/// Hashes one name.
pub(crate) struct NameHasher {
    keyed: SipHasher13,
    hash: u64,
}

// === impl NameHashing ===

impl NameHashing {
    /// The keys are as random as those of the standard library.
    pub(crate) fn random() -> Self {
        let random = RandomState::new();
        let [first, second] = [0_u8, 1].map(|which| random.hash_one(which));
        Self(SipHasher13::new_with_keys(first, second))
    }
}

impl BuildHasher for NameHashing {
    type Hasher = NameHasher;

    #[inline]
    fn build_hasher(&self) -> NameHasher {
        NameHasher {
            keyed: self.0,
            hash: 0,
        }
    }
}

// === impl NameHasher ===

impl Hasher for NameHasher {
    #[inline]
    fn write(&mut self, name: &[u8]) {
        debug_assert_eq!(self.hash, 0, "one name");
        self.hash = self.keyed.hash(name);
    }

    /// The end of a `str`, which tells it from what comes after. Nothing comes after a name.
    #[inline]
    fn write_u8(&mut self, end: u8) {
        debug_assert_eq!(end, 0xff, "no byte of text");
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_key_of_the_map_is_hashed_as_the_name_that_is_looked_up() {
        let hashing = NameHashing::random();
        for name in [
            "",
            "a",
            "hits",
            "seven b",
            "eight by",
            "user/17/hits",
            "Grüße",
        ] {
            let key: Arc<str> = name.into();
            assert_eq!(hashing.hash_one(&key), hashing.hash_one(name), "{name}");
        }
    }

    /// Of more bytes than the last block of a hash counts, too.
    #[test]
    fn a_name_of_any_length_is_hashed_as_piece_by_piece() {
        let hashing = NameHashing::random();
        let text = "0123456789abcdef".repeat(40);
        let mut hashes = std::collections::HashSet::new();
        for length in 0..=text.len() {
            let name = &text[..length];
            let mut pieces = hashing.0;
            name.as_bytes()
                .chunks(3)
                .for_each(|piece| pieces.write(piece));
            assert_eq!(hashing.hash_one(name), pieces.finish(), "{length}");
            hashes.insert(pieces.finish());
        }
        assert_eq!(hashes.len(), text.len() + 1, "no two are alike");
    }

    #[test]
    fn stores_have_keys_of_their_own() {
        let [one, other] = [NameHashing::random(), NameHashing::random()];
        assert_ne!(one.hash_one("hits"), other.hash_one("hits"));
        assert_ne!(one.hash_one("hits"), one.hash_one("hit"));
    }
}
