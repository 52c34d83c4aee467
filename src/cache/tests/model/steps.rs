//! The random steps of the model.

use proptest::prelude::*;

use super::KEYS;
use super::fetches::Word;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Ask { key: usize, forces: bool },
    HangUp { caller: usize },
    Atlas { key: usize, word: Word },
    EndOneWalk,
    Pass { seconds: u64 },
    SetCalendar { by: i64 },
    Purge { what: Purged, soft: bool },
    Sweep,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Purged {
    All,
    Key(usize),
    ProjectOf(usize),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS.len();
    let purged = prop_oneof![
        2 => key.clone().prop_map(Purged::Key),
        1 => key.clone().prop_map(Purged::ProjectOf),
        1 => Just(Purged::All),
    ];
    prop_oneof![
        8 => (key.clone(), prop::bool::weighted(0.2))
            .prop_map(|(key, forces)| Step::Ask { key, forces }),
        2 => (0_usize..16).prop_map(|caller| Step::HangUp { caller }),
        3 => (key, word()).prop_map(|(key, word)| Step::Atlas { key, word }),
        6 => Just(Step::EndOneWalk),
        4 => (0_u64..8).prop_map(|seconds| Step::Pass { seconds }),
        3 => (0_u64..150).prop_map(|seconds| Step::Pass { seconds }),
        1 => (-500_i64..500).prop_map(|by| Step::SetCalendar { by }),
        2 => (purged, any::<bool>()).prop_map(|(what, soft)| Step::Purge { what, soft }),
        1 => Just(Step::Sweep),
    ]
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        4 => (0_u8..4, 1_u16..400).prop_map(|(certificates, first_ends_in)| Word::List {
            certificates,
            first_ends_in,
        }),
        1 => Just(Word::Denied),
        1 => Just(Word::Missing),
        3 => Just(Word::Down),
        1 => Just(Word::Limited),
        1 => Just(Word::Dies),
    ]
}
