//! What `check --online` says of the fleet. No answer needs its engine, so little of it is a failure.

use super::finding::Finding;
use crate::fleet::{ConnectError, FleetCheck};
use crate::telemetry::Chain;

/// A line for each thing that was looked at.
pub(super) fn findings(found: Result<FleetCheck, ConnectError>) -> Vec<Finding> {
    match found {
        Ok(check) => vec![
            of_engine(&check),
            of_functions(&check),
            of_rights(&check),
            of_clock(&check),
            of_disk(&check),
            of_members(&check),
        ],
        Err(error) => {
            let advice = "Check fleet.url, username and password_file. Meanwhile each replica goes on alone: see \
                          \"The fleet\" in docs/operating.md.";
            let found = Chain(&error).to_string();
            vec![Finding::bad(
                "fleet".to_owned(),
                found,
                Some(advice.to_owned()),
            )]
        }
    }
}

fn of_engine(check: &FleetCheck) -> Finding {
    let what = "fleet".to_owned();
    if check.is_primary {
        return Finding::good(what, format!("connected to {}", check.engine));
    }
    let found = format!("{} is a replica, which takes nothing", check.engine);
    Finding::bad(
        what,
        found,
        Some("Name the primary in fleet.url.".to_owned()),
    )
}

fn of_functions(check: &FleetCheck) -> Finding {
    let what = "fleet functions".to_owned();
    if check.has_functions {
        return Finding::good(what, "they are loaded".to_owned());
    }
    let advice = "The gateway loads them if its user may; otherwise run `atlas-cert-gateway fleet functions | \
                  redis-cli -x FUNCTION LOAD REPLACE` as an administrator of the engine.";
    let found = "they are not loaded, or of an older version".to_owned();
    Finding::warning(what, found, advice.to_owned())
}

fn of_rights(check: &FleetCheck) -> Finding {
    let what = "fleet rights".to_owned();
    if !check.may_run_scripts {
        return Finding::good(
            what,
            "our user may call functions, and no scripts".to_owned(),
        );
    }
    let advice = "Give it the rights that `atlas-cert-gateway fleet functions` prints at its end.";
    let found = "our user may do more than the gateway does".to_owned();
    Finding::warning(what, found, advice.to_owned())
}

fn of_clock(check: &FleetCheck) -> Finding {
    let what = "fleet clock".to_owned();
    if check.clock_ahead.unsigned_abs() <= MOST_APART {
        return Finding::good(what, "it agrees with ours".to_owned());
    }
    let direction = if check.clock_ahead > 0 {
        "behind"
    } else {
        "ahead of"
    };
    let found = format!(
        "it is {} s {direction} ours",
        check.clock_ahead.unsigned_abs()
    );
    let advice = "Set both hosts' clocks by NTP: lists look older than they are, or are not taken.";
    Finding::warning(what, found, advice.to_owned())
}

fn of_disk(check: &FleetCheck) -> Finding {
    let what = "fleet persistence".to_owned();
    match check.persists {
        Some(true) => {
            let advice = "Start it with `--save \"\" --appendonly no`: nothing in it is worth a disk, and it is \
                          silent while it writes.";
            Finding::warning(
                what,
                "the engine writes to a disk".to_owned(),
                advice.to_owned(),
            )
        }
        Some(false) => Finding::good(what, "the engine writes to no disk".to_owned()),
        None => Finding::good(
            what,
            "not known: our user may not ask, as it should be".to_owned(),
        ),
    }
}

fn of_members(check: &FleetCheck) -> Finding {
    let (what, members) = ("fleet members".to_owned(), check.members);
    if check.differing == 0 {
        return Finding::good(what, format!("{members} run"));
    }
    let found = format!(
        "{members} run, {} of them with another configuration",
        check.differing
    );
    let advice =
        "Give all replicas the same [cache] and [atlas] settings; each goes by its own until then.";
    Finding::warning(what, found, advice.to_owned())
}

/// In seconds.
const MOST_APART: u64 = 2;
