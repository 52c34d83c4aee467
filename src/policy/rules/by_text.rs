//! Numbers by patterns: a text goes in, lists of numbers come out that hold every number with a pattern
//! that fits it, and some more.
//!
//! Each pattern is filed under one of its literal pieces, which a text must have to fit: its beginning,
//! its end or something between two stars. Of the pieces of a pattern the one is taken that the fewest
//! patterns share, for a text that has it is sent to all of those. So only patterns without any piece of
//! their own, such as `*` and `*a*b*` among a thousand of that kind, are tried against many texts.

use std::cmp::Reverse;
use std::collections::HashMap;

use aho_corasick::AhoCorasick;

use super::super::glob::{Anchor, Glob};

/// Numbers by the anchors of their patterns. Lists are sorted, and hold no number twice.
#[derive(Debug, Default)]
pub(super) struct ByText {
    exact: HashMap<Box<str>, Vec<u32>>,
    prefixes: Affixes,
    suffixes: Affixes,
    pieces: Option<Pieces>,
    anywhere: Vec<u32>,
}

/// Beginnings or ends of texts. There are few different lengths, and each costs one look.
#[derive(Debug, Default)]
struct Affixes {
    lengths: Vec<usize>,
    numbers: HashMap<Box<str>, Vec<u32>>,
}

/// Texts somewhere within others. However many there are, a text is read once.
#[derive(Debug)]
struct Pieces {
    automaton: AhoCorasick,
    numbers: Vec<Vec<u32>>,
}

impl ByText {
    /// Files `numbered` patterns, whose numbers come in order.
    pub(super) fn new<'g>(numbered: impl Iterator<Item = (u32, &'g Glob)> + Clone) -> Self {
        let mut shared: HashMap<Anchor<'_>, usize> = HashMap::new();
        for anchor in numbered.clone().flat_map(|(_, glob)| glob.anchors()) {
            *shared.entry(anchor).or_default() += 1;
        }
        let (mut by_text, mut pieces) = (Self::default(), HashMap::new());
        for (number, glob) in numbered {
            let sharers = |anchor: &Anchor<'_>| shared.get(anchor).copied();
            let best = glob
                .anchors()
                .min_by_key(|anchor| (sharers(anchor), Reverse(anchor.text().len())));
            match best {
                None => add(&mut by_text.anywhere, number),
                Some(Anchor::Exact(text)) => file(&mut by_text.exact, text, number),
                Some(Anchor::Prefix(text)) => file(&mut by_text.prefixes.numbers, text, number),
                Some(Anchor::Suffix(text)) => file(&mut by_text.suffixes.numbers, text, number),
                Some(Anchor::Piece(text)) => add(pieces.entry(text).or_default(), number),
            }
        }
        by_text.prefixes.seal();
        by_text.suffixes.seal();
        by_text.file_pieces(pieces);
        by_text
    }

    fn file_pieces(&mut self, pieces: HashMap<&str, Vec<u32>>) {
        if pieces.is_empty() {
            return;
        }
        let (texts, numbers): (Vec<_>, Vec<_>) = pieces.into_iter().unzip();
        if let Ok(automaton) = AhoCorasick::new::<_, &str>(texts) {
            self.pieces = Some(Pieces { automaton, numbers });
        } else {
            // More than two thousand million letters: what no index can hold is tried.
            self.anywhere.extend(numbers.iter().flatten());
            self.anywhere.sort_unstable();
            self.anywhere.dedup();
        }
    }

    /// How many numbers [`ByText::for_each_list`] would show.
    pub(super) fn count(&self, text: &str) -> usize {
        let mut count = 0_usize;
        self.for_each_list(text, |list| count = count.saturating_add(list.len()));
        count
    }

    pub(super) fn for_each_list(&self, text: &str, mut visit: impl FnMut(&[u32])) {
        visit(&self.anywhere);
        if let Some(list) = self.exact.get(text) {
            visit(list);
        }
        let prefix = |length| text.get(..length);
        self.prefixes.for_each_list(text.len(), prefix, &mut visit);
        let suffix = |length| text.get(text.len() - length..);
        self.suffixes.for_each_list(text.len(), suffix, &mut visit);
        if let Some(pieces) = &self.pieces {
            pieces.for_each_list(text, visit);
        }
    }
}

impl Affixes {
    fn seal(&mut self) {
        self.lengths = self.numbers.keys().map(|text| text.len()).collect();
        self.lengths.sort_unstable();
        self.lengths.dedup();
    }

    fn for_each_list<'t>(
        &self,
        longest: usize,
        affix: impl Fn(usize) -> Option<&'t str>,
        visit: &mut impl FnMut(&[u32]),
    ) {
        for length in self.lengths.iter().take_while(|length| **length <= longest) {
            // `None` where the cut is inside a character: no pattern can fit there.
            if let Some(list) = affix(*length).and_then(|text| self.numbers.get(text)) {
                visit(list);
            }
        }
    }
}

impl Pieces {
    fn for_each_list(&self, text: &str, mut visit: impl FnMut(&[u32])) {
        for found in self.automaton.find_overlapping_iter(text) {
            if let Some(list) = self.numbers.get(found.pattern().as_usize()) {
                visit(list);
            }
        }
    }
}

fn file(lists: &mut HashMap<Box<str>, Vec<u32>>, text: &str, number: u32) {
    add(lists.entry(Box::from(text)).or_default(), number);
}

/// Numbers come in order, so a second pattern of the same number finds it last in the list.
fn add(list: &mut Vec<u32>, number: u32) {
    if list.last() != Some(&number) {
        list.push(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_patterns_of_any_shape_few_are_tried() {
        for shape in ["#", "#*", "*#", "*#*", "CN=*-#-*", "CN=*,OU=#", "*a*#*b*"] {
            let pattern = |number: u32| Glob::new(&shape.replace('#', &format!("<{number}>")));
            let globs: Vec<Glob> = (0..5_000).map(pattern).collect();
            let by_text = ByText::new((0..).zip(&globs));
            let text = shape.replace('#', "<1234>").replace('*', "xyz");
            assert!(globs[1_234].matches(&text), "{shape}");
            let mut tried = Vec::new();
            by_text.for_each_list(&text, |list| tried.extend_from_slice(list));
            assert_eq!(tried, [1_234], "{shape}");
        }
    }

    #[test]
    fn a_number_stands_once_in_a_list_and_a_pattern_without_pieces_in_every_answer() {
        let globs = ["*a*", "**", "*a*b*", "*a*"].map(Glob::new);
        let by_text = ByText::new([0, 1, 2, 2].into_iter().zip(&globs));
        assert_eq!(by_text.count("zzz"), 1);
        let mut tried = Vec::new();
        by_text.for_each_list("ba", |list| tried.push(list.to_vec()));
        tried.sort_unstable();
        assert_eq!(tried, [vec![0, 2], vec![1], vec![2]]);
    }
}
