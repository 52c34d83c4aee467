//! Which records: the options of `audit search`, in the words of `GET /audit/lookups`.

use clap::Args;
use uuid::Uuid;

use crate::atlas::Timestamp;
use crate::audit::search;
use crate::audit::search::{Filter, Peer, When};

/// A record has to pass all that are given.
#[derive(Debug, Args)]
pub(super) struct Filters {
    /// Who asked: the token's subject.
    #[arg(long)]
    subject: Option<String>,
    /// Who issued the token.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// For which client it was issued.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// The token itself, by its `jti`.
    #[arg(long, value_name = "JTI")]
    token_id: Option<String>,
    /// The access rule that granted or denied it.
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// From where: an IP address, or one with a port (`10.0.0.1:50123`, `[::1]:50123`).
    #[arg(long, value_name = "ADDRESS", value_parser = search::peer)]
    peer: Option<Peer>,
    /// About which project.
    #[arg(long, value_name = "GROUP_ID", value_parser = search::group)]
    group: Option<String>,
    /// About which database user.
    #[arg(long)]
    username: Option<String>,
    /// How it ended: answered, denied, unauthenticated, rejected, failed or abandoned.
    #[arg(long, value_parser = search::outcome)]
    outcome: Option<String>,
    /// With which HTTP status.
    #[arg(long, value_parser = search::status)]
    status: Option<u16>,
    /// Lookups, fetches from Atlas, what operators did, or refusals that were folded: lookup, fetch, admin
    /// or refusals.
    #[arg(long, value_parser = search::kind)]
    kind: Option<String>,
    /// Not before this: `2026-08-10T02:06:35Z`, `2026-08-10`, or `24h` for as long ago.
    #[arg(long, value_name = "TIME", value_parser = search::when)]
    since: Option<When>,
    /// Before this.
    #[arg(long, value_name = "TIME", value_parser = search::when)]
    until: Option<When>,
    /// The `X-Request-Id` of an answer.
    #[arg(long, value_name = "ID", value_parser = search::id)]
    request_id: Option<Uuid>,
    /// A fetch from Atlas, and every answer that it filled.
    #[arg(long, value_name = "ID", value_parser = search::id)]
    fill_id: Option<Uuid>,
    /// Which answers had a certificate, by its serial number (`_id`), and with which fetches it came and went.
    #[arg(long, value_name = "SERIAL", value_parser = search::certificate)]
    certificate: Option<i64>,
    /// Only records with a number above this.
    #[arg(long, value_name = "SEQ", value_parser = search::number)]
    after: Option<u64>,
    /// Only records with a number below this.
    #[arg(long, value_name = "SEQ", value_parser = search::number)]
    before: Option<u64>,
}

impl Filters {
    /// The filter, where it is `now`.
    pub(super) fn filter(self, now: Timestamp) -> Filter {
        Filter {
            subject: self.subject,
            issuer: self.issuer,
            client_id: self.client_id,
            token_id: self.token_id,
            rule: self.rule,
            peer: self.peer,
            group: self.group,
            username: self.username,
            outcome: self.outcome,
            status: self.status,
            kind: self.kind,
            since: self.since.map(|since| since.at(now)),
            until: self.until.map(|until| until.at(now)),
            request_id: self.request_id,
            fill_id: self.fill_id,
            certificate: self.certificate,
            after: self.after,
            before: self.before,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        filters: Filters,
    }

    const ID: &str = "0198a3f0-0000-7000-8000-000000000000";
    /// An option, a value that it takes, and one that it does not take.
    type Example = (&'static str, &'static str, Option<&'static str>);
    const OPTIONS: [Example; 18] = [
        ("subject", "ci", None),
        ("issuer", "https://idp.internal.example", None),
        ("client-id", "payments", None),
        ("token-id", "1", None),
        ("rule", "payments reads", None),
        ("peer", "10.0.0.1", Some("localhost")),
        ("group", "32b6e34b3d91647abb20e7b8", Some("XYZ")),
        ("username", "app", None),
        ("outcome", "denied", Some("allowed")),
        ("status", "403", Some("4xx")),
        ("kind", "lookup", Some("lookups")),
        ("since", "2026-08-10", Some("yesterday")),
        ("until", "24h", Some("h")),
        ("request-id", ID, Some("7")),
        ("fill-id", ID, Some("7")),
        ("certificate", "5225608189600411232", Some("0x5e")),
        ("after", "7", Some("-1")),
        ("before", "7", Some("x")),
    ];

    #[test]
    fn the_command_and_the_operators_door_take_the_same_filters() {
        let now = Timestamp::parse("2026-08-10T02:06:35Z").unwrap();
        let known = Program::command();
        let known = known.get_arguments().filter_map(clap::Arg::get_long);
        let options = OPTIONS.map(|(name, ..)| name);
        assert_eq!(known.collect::<Vec<_>>(), options);
        for (name, value, wrong) in OPTIONS {
            let read = |value: &str| Program::try_parse_from(["", &format!("--{name}={value}")]);
            let mut by_http = Filter::default();
            by_http.set(name, value, now).unwrap();
            let by_command = read(value).unwrap().filters.filter(now);
            assert_eq!(by_command, by_http, "{name}");
            assert_ne!(by_command, Filter::default(), "{name}");
            if let Some(wrong) = wrong {
                assert!(read(wrong).is_err(), "{name}");
                assert!(Filter::default().set(name, wrong, now).is_err(), "{name}");
            }
        }
    }
}
