//! Retry budget of one project: retries are a tenth of its first attempts, and a few to start with. Pure.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RetryBudget {
    tenths: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { tenths: 30 }
    }
}

impl RetryBudget {
    pub(super) fn earn(&mut self) {
        self.tenths = (self.tenths + 1).min(100);
    }

    pub(super) fn spend(&mut self, cost: u32) -> bool {
        let left = self.tenths.checked_sub(cost * 10);
        self.tenths = left.unwrap_or(self.tenths);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_tenth_of_the_attempts_and_never_more_than_ten_at_once() {
        let mut budget = RetryBudget::default();
        assert!(budget.spend(1) && budget.spend(2) && !budget.spend(1));
        for _ in 0..9 {
            budget.earn();
        }
        assert!(!budget.spend(1));
        budget.earn();
        assert!(budget.spend(1));
        for _ in 0..1_000 {
            budget.earn();
        }
        assert_eq!((0..20).filter(|_| budget.spend(1)).count(), 10);
    }
}
