//! Allowances over several replicas, on a real engine whose time the test sets (FL17).

use super::super::tests::{at, caller, permit};
use super::*;
use crate::fleet::test_engine::{Engine, Joined, START, at_time, set_time};
use crate::system::Moment;

/// A tenth of a second of the world, in which a caller asks so often at one of the replicas.
const STEP: Duration = Duration::from_millis(100);
const LIMIT: u32 = 600;

/// Two or more replicas, each with an allowance of its own, told each second.
struct Replicas {
    engine: Engine,
    joined: Joined,
    allowances: Vec<Allowance>,
    /// Steps since the beginning.
    step: u32,
}

impl Replicas {
    async fn new(count: usize) -> Option<Self> {
        let engine = Engine::start().await?;
        let joined = Joined::to(&engine).await;
        let allowance = |_| Allowance::in_fleet(Some(joined.fleet.clone()));
        let allowances = (0..count).map(allowance).collect();
        Some(Self {
            engine,
            joined,
            allowances,
            step: 0,
        })
    }

    fn now(&self) -> Duration {
        START + STEP * self.step
    }

    /// Time goes on; every second, not all at once, the replicas tell what was spent.
    async fn go_on(&mut self) {
        self.step += 1;
        set_time(&self.engine, self.now()).await;
        let turn = usize::try_from(self.step % 10).unwrap();
        let now = self.now();
        for (number, allowance) in self.allowances.iter().enumerate() {
            if number % 10 == turn {
                allowance.tell(&self.joined.fleet, now).await.unwrap();
            }
        }
    }

    /// Every replica tells now.
    async fn tell_all(&self) {
        set_time(&self.engine, self.now()).await;
        for allowance in &self.allowances {
            allowance
                .tell(&self.joined.fleet, self.now())
                .await
                .unwrap();
        }
    }

    /// How many of so many lookups are admitted at a replica now.
    fn ask(&self, replica: usize, lookups: u32) -> u32 {
        let (caller, permit) = (caller("a"), permit(Some(LIMIT), None));
        let now = Moment {
            elapsed: self.now(),
            ..at(0)
        };
        let admitted = (0..lookups).map(|_| {
            let taken = self.allowances[replica].admit_lookup(&caller, &permit, now);
            u32::from(taken.is_ok())
        });
        admitted.sum()
    }
}

/// Where a caller asks in a step.
type Route = fn(step: u32, replicas: u32) -> u32;

const ROUTES: [(&str, Route); 3] = [
    ("sticky", |_, _| 0),
    ("spread", |step, replicas| step % replicas),
    ("moving", |step, replicas| step / 70 % replicas),
];

/// How many lookups one replica alone admits of so many in each step.
fn of_one(lookups: u32, steps: u32) -> u32 {
    let allowance = Allowance::default();
    let (caller, permit) = (caller("a"), permit(Some(LIMIT), None));
    let mut admitted = 0;
    for step in 1..=steps {
        let now = Moment {
            elapsed: START + STEP * step,
            ..at(0)
        };
        for _ in 0..lookups {
            admitted += u32::from(allowance.admit_lookup(&caller, &permit, now).is_ok());
        }
    }
    admitted
}

#[tokio::test]
async fn fl17_replicas_admit_together_what_one_would() {
    // Three minutes.
    let steps = 1_800;
    for (name, route) in ROUTES {
        for lookups in [2, 3] {
            let Some(mut replicas) = Replicas::new(4).await else {
                return;
            };
            let mut admitted = 0;
            for _ in 0..steps {
                replicas.go_on().await;
                let replica = route(replicas.step, 4);
                admitted += replicas.ask(usize::try_from(replica).unwrap(), lookups);
            }
            let one = of_one(lookups, steps);
            let most = one + one / 100;
            assert!(
                (one..=most).contains(&admitted),
                "{name} caller, {lookups} in each step: {admitted} of {one}"
            );
        }
    }
}

#[tokio::test]
async fn fl17_a_caller_within_its_allowance_is_never_refused() {
    for (name, route) in ROUTES {
        let Some(mut replicas) = Replicas::new(4).await else {
            return;
        };
        // A burst of the whole minute, then exactly what comes back.
        assert_eq!(replicas.ask(0, LIMIT), LIMIT, "{name}");
        for _ in 0..1_200 {
            replicas.go_on().await;
            let replica = usize::try_from(route(replicas.step, 4)).unwrap();
            assert_eq!(replicas.ask(replica, 1), 1, "{name} {}", replicas.step);
        }
    }
}

#[tokio::test]
async fn what_was_taken_alone_is_told_as_far_as_it_is_still_owed() {
    let Some(mut replicas) = Replicas::new(2).await else {
        return;
    };
    // Nothing is told for five minutes, in which the caller takes what comes back.
    assert_eq!(replicas.ask(0, LIMIT), LIMIT);
    for _ in 0..3_000 {
        replicas.step += 1;
        assert_eq!(replicas.ask(0, 1), 1);
    }
    replicas.tell_all().await;
    // A minute is owed, not six: what comes back is there at the other replica, too.
    replicas.ask(1, 1);
    replicas.tell_all().await;
    assert_eq!(replicas.ask(1, LIMIT), 0);
    replicas.step += 10;
    assert_eq!(replicas.ask(1, LIMIT), LIMIT / 60 - 1);
}

#[tokio::test]
async fn an_engine_that_forgets_everything_each_second_gives_a_tenth_at_most() {
    let Some(mut replicas) = Replicas::new(2).await else {
        return;
    };
    let mut admitted = 0;
    for step in 0..1_800_u32 {
        replicas.go_on().await;
        if step % 13 == 5 {
            at_time(&replicas.engine, "redis.call('FLUSHALL')", replicas.now()).await;
        }
        admitted += replicas.ask(usize::try_from(step / 70 % 2).unwrap(), 2);
    }
    let one = of_one(2, 1_800);
    assert!(
        (one..=one + one / 10).contains(&admitted),
        "{admitted} of {one}"
    );
}
