//! A dump of callgrind goes in, what each line of the program took comes out.

use std::collections::HashMap;

/// What a line of a source file took within a function, without what it called.
pub(crate) struct Cost<'a> {
    /// The program or library that it was executed in.
    pub(crate) object: &'a str,
    /// Where it was written, which is another file than its function's where it was inlined.
    pub(crate) file: &'a str,
    pub(crate) function: &'a str,
    /// The place of its function among all; lines of one function stand in the order of their addresses.
    pub(crate) function_number: usize,
    pub(crate) instructions: u64,
}

impl Cost<'_> {
    pub(crate) fn is_of_sha256(&self) -> bool {
        self.function.contains("sha256_block")
    }
}

/// All instructions of a dump of callgrind.
pub(crate) fn total(dump: &str) -> Option<u64> {
    let line = dump
        .lines()
        .find_map(|line| line.strip_prefix("totals: "))?;
    line.split(' ').next()?.parse().ok()
}

/// What the functions that hash blocks took themselves.
pub(crate) fn of_sha256(costs: &[Cost<'_>]) -> u64 {
    let hashing = costs.iter().filter(|cost| cost.is_of_sha256());
    hashing.map(|cost| cost.instructions).sum()
}

/// All lines of a dump.
pub(crate) fn costs(dump: &str) -> Vec<Cost<'_>> {
    let mut objects = Names::default();
    let (mut files, mut functions) = (Names::default(), Names::default());
    let (mut object, mut file, mut function, mut function_number) = ("", "", "", 0);
    let (mut of_callee, mut costs) = (false, Vec::new());
    for line in dump.lines() {
        match line.split_once('=') {
            Some(("ob", name)) => object = objects.full(name),
            Some(("fl" | "fi" | "fe", name)) => file = files.full(name),
            Some(("fn", name)) => {
                function = functions.full(name);
                function_number += 1;
            }
            // A name may stand in full where its bearer is called, and nowhere else.
            Some(("cob", name)) => drop(objects.full(name)),
            Some(("cfi" | "cfl", name)) => drop(files.full(name)),
            Some(("cfn", name)) => drop(functions.full(name)),
            Some(("calls", _)) => of_callee = true,
            None if line.starts_with(|first: char| "+-*".contains(first) || first.is_numeric()) => {
                let cost = line.split(' ').nth(1).and_then(|cost| cost.parse().ok());
                if let Some(instructions) = cost.filter(|_| !of_callee) {
                    costs.push(Cost {
                        object,
                        file,
                        function,
                        function_number,
                        instructions,
                    });
                }
                of_callee = false;
            }
            Some(_) | None => {}
        }
    }
    costs
}

/// Names by their numbers: `(12) name` where one comes first, and `(12)` from then on.
#[derive(Default)]
struct Names<'a>(HashMap<&'a str, &'a str>);

impl<'a> Names<'a> {
    fn full(&mut self, text: &'a str) -> &'a str {
        match text.split_once(' ') {
            Some((number, name)) => {
                self.0.insert(number, name);
                name
            }
            None => self.0.get(text).copied().unwrap_or(text),
        }
    }
}
