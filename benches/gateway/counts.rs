//! A dump of callgrind goes in, counts of instructions come out.

/// All instructions of a dump of callgrind.
pub(crate) fn total(dump: &str) -> Option<u64> {
    let words = ["totals: ", "summary: "];
    let line = dump
        .lines()
        .find_map(|line| words.iter().find_map(|word| line.strip_prefix(word)))?;
    line.split(' ').next()?.parse().ok()
}

/// What the functions that hash blocks took themselves.
pub(crate) fn of_sha256(dump: &str) -> u64 {
    let (mut hashers, mut in_hasher, mut of_callee, mut sum) = (Vec::new(), false, false, 0);
    for line in dump.lines() {
        if let Some(function) = line
            .strip_prefix("fn=")
            .or_else(|| line.strip_prefix("cfn="))
        {
            // The name stands only where it comes first: `(12) name`, and `(12)` from then on.
            let (id, name) = function.split_once(' ').unwrap_or((function, ""));
            if name.contains("sha256_block") {
                hashers.push(id.to_owned());
            }
            if line.starts_with("fn=") {
                in_hasher = hashers.iter().any(|hasher| hasher == id);
            }
        } else if line.starts_with("calls=") {
            of_callee = true;
        } else if let Some((_, cost)) = line.split_once(' ')
            && !line.contains('=')
        {
            if in_hasher && !of_callee {
                sum += cost.parse::<u64>().unwrap_or(0);
            }
            of_callee = false;
        }
    }
    sum
}
