//! Random serial numbers, nonces and tokens, the same each time for a seed.

/// The generator `SplitMix64`: small, even, and the same on every machine. Nothing here is secret.
#[derive(Clone, Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A positive number of at most 63 bits. Nearly all are above 2^53, as Atlas's are.
    pub(crate) fn serial(&mut self) -> i64 {
        i64::try_from(self.next() >> 1).unwrap_or(i64::MAX).max(1)
    }

    /// `length` characters of `alphabet`, which holds at most 256.
    pub(crate) fn text(&mut self, length: usize, alphabet: &[u8]) -> String {
        let size = u64::try_from(alphabet.len()).unwrap_or(1).max(1);
        (0..length)
            .filter_map(|_| alphabet.get(usize::try_from(self.next() % size).unwrap_or(0)))
            .map(|byte| char::from(*byte))
            .collect()
    }
}

/// The characters of base64url, of which tokens are made.
pub(crate) const BASE64_URL: &[u8] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The characters of base64, of which nonces and PEM lines are made.
pub(crate) const BASE64: &[u8] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
