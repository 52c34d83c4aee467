//! Moduli that can be factored although they are long: those of the library behind CVE-2017-15361
//! (ROCA), which made every prime a power of 65,537 modulo a product of the first primes.
//!
//! Such a modulus is itself a power of 65,537 modulo each of them. Of those made well, fewer than one
//! in 2^27 are so for all the primes below.

use std::iter;

/// Whether `modulus`, a big-endian number, has the mark of those primes.
pub(super) fn marks(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|prime| {
        let digit = |rest: u32, byte: &u8| (rest * 256 + u32::from(*byte)) % prime;
        let rest = modulus.iter().fold(0, digit);
        let powers = iter::successors(Some(1), |power| Some(power * GENERATOR % prime));
        let mut powers = powers.zip(0..*prime);
        powers.any(|(power, _)| power == rest)
    })
}

const GENERATOR: u32 = 65_537;

const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];
