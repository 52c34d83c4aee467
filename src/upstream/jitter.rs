//! Jitter: a random part of a span, so that many gateways do not act in step.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Where randomness comes from. Fixed in tests, so that rules can be checked to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// Always this many millionths of what is asked for.
    Fixed(u32),
    /// The system's.
    System,
}

impl Jitter {
    /// Anything between nothing and `span`, evenly.
    pub(crate) fn up_to(self, span: Duration) -> Duration {
        let part = match self {
            Self::Fixed(part) => part.min(WHOLE),
            Self::System => Self::millionths(),
        };
        let nanos = span.as_nanos().saturating_mul(u128::from(part)) / u128::from(WHOLE);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Anything between `least` and `most`, evenly.
    pub(crate) fn between(self, least: Duration, most: Duration) -> Duration {
        least.saturating_add(self.up_to(most.saturating_sub(least)))
    }

    /// Differs from call to call, and needs to be no secret: the randomness for keys and nonces is
    /// gathered for 40 ms and more when a process first asks for it, and that would be the time of the
    /// first caller.
    fn millionths() -> u32 {
        let drawn = RandomState::new().hash_one(0_u8) % u64::from(WHOLE + 1);
        u32::try_from(drawn).unwrap_or(WHOLE)
    }
}

const WHOLE: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_span_never_passes_the_span() {
        let span = Duration::from_secs(2);
        assert_eq!(Jitter::Fixed(0).up_to(span), Duration::ZERO);
        assert_eq!(Jitter::Fixed(500_000).up_to(span), Duration::from_secs(1));
        assert_eq!(Jitter::Fixed(u32::MAX).up_to(span), span);
        let mut below_half = 0;
        for _ in 0..1_000 {
            let drawn = Jitter::System.between(Duration::from_secs(1), span);
            assert!((Duration::from_secs(1)..=span).contains(&drawn));
            below_half += usize::from(drawn < Duration::from_millis(1_500));
        }
        assert!((350..650).contains(&below_half), "{below_half}");
    }
}
