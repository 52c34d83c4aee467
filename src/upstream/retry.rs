//! What is worth another try: what became of a call goes in, what to do next comes out. Pure.
//!
//! There is one layer of retries, this one; the client's own are switched off.

use std::time::Duration;

use http::StatusCode;

use super::budget::CooldownCause;

/// What became of one call to Atlas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An answer that is not a 200.
    Answered {
        /// Its status.
        status: StatusCode,
        /// What `Retry-After` asks for.
        retry_after: Option<Duration>,
        /// Whether the error names a missing permission, which a new token rarely brings.
        no_access: bool,
    },
    /// No connection: refused, unreachable, or its name is unknown.
    NoConnection,
    /// The connection broke before the head of an answer.
    Reset,
    /// No answer, or not all of it, in time.
    Timeout,
    /// TLS failed.
    Tls,
    /// The answer broke off, or its JSON does.
    Torn,
    /// Whole, but not what Atlas's API answers.
    Unusable,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask for the same page again after a pause.
    Again(Pause),
    /// Stop, and ask nothing more of this project until the wait is over.
    CloseGate {
        /// What Atlas said.
        cause: CooldownCause,
        /// What Atlas asked for, if it said so.
        wait: Option<Duration>,
    },
    /// Ask again with a new token, if there may be one.
    NewToken(Blame),
    /// Begin the whole walk again after a pause.
    Restart(Pause),
    /// Give the outcome to the caller.
    Stop,
}

/// What a 401 may be the fault of. Atlas answers it to a dead token and to an account without a right, and
/// not always with a code that tells which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The account's rights, by the error's code, or a token that has lost them.
    Access,
    /// The token.
    Token,
}

/// How long to wait before another try, and what the try costs the budget of retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pause {
    /// At least.
    pub(crate) least: Duration,
    /// At most; the time between is drawn, so that callers do not come back in step.
    pub(crate) most: Duration,
    /// How many retries it counts for.
    pub(crate) cost: u32,
}

/// What to do after `outcome`, when `retries` were made in this walk and `left` remains of its time.
pub(crate) fn next(outcome: Outcome, retries: u32, left: Duration) -> Next {
    let first = retries == 0;
    match outcome {
        Outcome::NoConnection | Outcome::Reset if retries < MOST_RETRIES => {
            Next::Again(jitter(retries, 1))
        }
        Outcome::Timeout if first && left >= LEAST_AFTER_TIMEOUT => Next::Again(jitter(retries, 2)),
        Outcome::Torn if first => Next::Restart(jitter(retries, 1)),
        Outcome::Answered {
            status,
            retry_after,
            no_access,
        } => after_answer(status, retry_after, no_access, retries),
        Outcome::NoConnection
        | Outcome::Reset
        | Outcome::Timeout
        | Outcome::Tls
        | Outcome::Torn
        | Outcome::Unusable => Next::Stop,
    }
}

fn after_answer(
    status: StatusCode,
    retry_after: Option<Duration>,
    no_access: bool,
    retries: u32,
) -> Next {
    let cost = if retries == 0 { 1 } else { SECOND_AFTER_ANSWER };
    match status.as_u16() {
        429 => Next::CloseGate {
            cause: CooldownCause::RateLimited,
            wait: retry_after,
        },
        503 if retry_after.is_some_and(|wait| wait > LONGEST_INLINE_WAIT) => Next::CloseGate {
            cause: CooldownCause::Unavailable,
            wait: retry_after,
        },
        503 if retries < MOST_RETRIES => {
            let mut pause = jitter(retries, cost);
            pause.least = retry_after.unwrap_or_default();
            pause.most = pause.most.max(pause.least);
            Next::Again(pause)
        }
        408 | 425 | 500 | 502 | 504 if retries < MOST_RETRIES => Next::Again(jitter(retries, cost)),
        401 if retries < MOST_RETRIES => Next::NewToken(if no_access {
            Blame::Access
        } else {
            Blame::Token
        }),
        _ => Next::Stop,
    }
}

/// Full jitter under a doubling ceiling.
fn jitter(retries: u32, cost: u32) -> Pause {
    Pause {
        least: Duration::ZERO,
        most: (FIRST_PAUSE * 2_u32.pow(retries.min(8))).min(LONGEST_PAUSE),
        cost,
    }
}

/// How many retries a project may still cause: a tenth of its first attempts, and a few to start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryBudget {
    tenths: u32,
}

impl RetryBudget {
    /// What a project starts with.
    pub(crate) const fn new() -> Self {
        Self { tenths: 30 }
    }

    /// A first attempt was made.
    pub(crate) fn earn(&mut self) {
        self.tenths = (self.tenths + 1).min(100);
    }

    /// Takes what a retry costs, if it is there.
    pub(crate) fn spend(&mut self, cost: u32) -> bool {
        match self.tenths.checked_sub(cost.saturating_mul(10)) {
            Some(left) => {
                self.tenths = left;
                true
            }
            None => false,
        }
    }
}

/// A walk makes at most three attempts at anything (G24).
const MOST_RETRIES: u32 = 2;
/// Whoever has answered badly twice is asked a third time only out of what many good calls have saved:
/// with one call in twenty failing by chance, one list in four hundred needs it (U52), while a project
/// that fails for good has nothing saved after the first few.
const SECOND_AFTER_ANSWER: u32 = 3;
const LEAST_AFTER_TIMEOUT: Duration = Duration::from_secs(3);
const LONGEST_INLINE_WAIT: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, retry_after: Option<u64>, no_access: bool) -> Outcome {
        Outcome::Answered {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: retry_after.map(Duration::from_secs),
            no_access,
        }
    }

    fn row(outcome: Outcome) -> String {
        let long = Duration::from_secs(9);
        [0, 1, 2]
            .map(|retries| shown(next(outcome, retries, long)))
            .join(" | ")
    }

    fn shown(next: Next) -> String {
        let pause = |word: &str, pause: Pause| {
            let (least, most) = (pause.least.as_millis(), pause.most.as_millis());
            format!("{word} {least}..{most}ms -{}", pause.cost)
        };
        match next {
            Next::Again(wait) => pause("again", wait),
            Next::Restart(wait) => pause("restart", wait),
            Next::CloseGate { cause, wait } => {
                let wait = wait.map_or_else(String::new, |wait| format!(" {}s", wait.as_secs()));
                format!("{cause:?}{wait}")
            }
            Next::NewToken(Blame::Access) => "new token for access".to_owned(),
            Next::NewToken(Blame::Token) => "new token".to_owned(),
            Next::Stop => "stop".to_owned(),
        }
    }

    #[test]
    fn the_whole_matrix() {
        let again = "again 0..100ms -1 | again 0..200ms -3 | stop";
        let twice = "again 0..100ms -1 | again 0..200ms -1 | stop";
        let never = "stop | stop | stop";
        for (outcome, expected) in [
            (Outcome::NoConnection, twice),
            (Outcome::Reset, twice),
            (Outcome::Timeout, "again 0..100ms -2 | stop | stop"),
            (Outcome::Tls, never),
            (Outcome::Torn, "restart 0..100ms -1 | stop | stop"),
            (Outcome::Unusable, never),
            (answered(401, None, false), "new token | new token | stop"),
            (
                answered(401, None, true),
                "new token for access | new token for access | stop",
            ),
            (answered(408, None, false), again),
            (answered(425, None, false), again),
            (
                answered(429, Some(55), false),
                "RateLimited 55s | RateLimited 55s | RateLimited 55s",
            ),
            (
                answered(429, None, false),
                "RateLimited | RateLimited | RateLimited",
            ),
            (answered(500, None, false), again),
            (answered(502, None, false), again),
            (answered(503, None, false), again),
            (
                answered(503, Some(1), false),
                "again 1000..1000ms -1 | again 1000..1000ms -3 | stop",
            ),
            (
                answered(503, Some(7), false),
                "Unavailable 7s | Unavailable 7s | Unavailable 7s",
            ),
            (answered(504, None, false), again),
        ] {
            assert_eq!(row(outcome), expected, "{outcome:?}");
        }
        for status in
            (100..=599).filter(|status| ![401, 408, 425, 429, 500, 502, 503, 504].contains(status))
        {
            assert_eq!(row(answered(status, Some(1), false)), never, "{status}");
        }
    }

    #[test]
    fn a_timeout_is_retried_only_while_three_seconds_are_left() {
        let short = Duration::from_millis(2_999);
        assert_eq!(next(Outcome::Timeout, 0, short), Next::Stop);
        assert_ne!(
            next(Outcome::Timeout, 0, Duration::from_secs(3)),
            Next::Stop
        );
    }

    #[test]
    fn retries_are_a_tenth_of_the_attempts_and_never_more_than_ten_at_once() {
        let mut budget = RetryBudget::new();
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
