//! Chance: a span goes in, a random part of it comes out; so that many gateways do not act in step.

use std::time::Duration;

/// Where randomness comes from. Fixed in tests, so that rules can be checked to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chance {
    /// Always this many millionths of what is asked for.
    Fixed(u32),
    /// The system's.
    System,
}

impl Chance {
    /// Anything between nothing and `span`, evenly.
    pub fn up_to(self, span: Duration) -> Duration {
        let part = match self {
            Self::Fixed(part) => part.min(WHOLE),
            Self::System => Self::millionths(),
        };
        let nanos = span.as_nanos().saturating_mul(u128::from(part)) / u128::from(WHOLE);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Anything between `least` and `most`, evenly.
    pub fn between(self, least: Duration, most: Duration) -> Duration {
        least.saturating_add(self.up_to(most.saturating_sub(least)))
    }

    fn millionths() -> u32 {
        let mut bytes = [0; 4];
        // Without randomness everybody waits the longest span, which is safe.
        match aws_lc_rs::rand::fill(&mut bytes) {
            Ok(()) => u32::from_ne_bytes(bytes) % (WHOLE + 1),
            Err(_) => WHOLE,
        }
    }
}

const WHOLE: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_span_never_passes_the_span() {
        let span = Duration::from_secs(2);
        assert_eq!(Chance::Fixed(0).up_to(span), Duration::ZERO);
        assert_eq!(Chance::Fixed(500_000).up_to(span), Duration::from_secs(1));
        assert_eq!(Chance::Fixed(u32::MAX).up_to(span), span);
        for _ in 0..1_000 {
            let drawn = Chance::System.between(Duration::from_secs(1), span);
            assert!((Duration::from_secs(1)..=span).contains(&drawn));
        }
    }
}
