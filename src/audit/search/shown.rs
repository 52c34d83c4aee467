//! Who was shown a certificate: the fetches whose lists had a serial number, which the answers name.
//!
//! A record of a fetch names what appeared, vanished and expired against the fetch before; only together
//! do they say what a list had. So all of them are read, oldest first, each directory by itself.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;

use serde::Deserialize;
use uuid::Uuid;

use super::cursor::Cursor;
use super::filter::Filter;
use super::line_filter::{CertificateFetches, LineFilter};
use super::{Found, Incomplete, Order, Search, SearchBounds};

/// Reads the fetches of `directories`; what could not be read, or cannot be known any more, is added to
/// `incomplete`.
pub(super) fn read(
    search: &Search<'_>,
    certificate: i64,
    bounds: SearchBounds<'_>,
    incomplete: &mut Vec<Incomplete>,
) -> io::Result<CertificateFetches> {
    let fetches = ShownFetches::wanted(search.filter);
    let filter = LineFilter::new(&fetches);
    let mut shown = ShownFetches::of(certificate);
    for directory in search.directories {
        shown.begin_chain();
        let mut cursor = Cursor::open(directory, &filter, Order::OldestFirst, bounds)?;
        loop {
            cursor.fill();
            if cursor.is_at_end() {
                break;
            }
            let _ = cursor.show(&mut |found| {
                shown.add(found);
                ControlFlow::Continue(())
            });
        }
        incomplete.extend(cursor.into_incomplete());
        if shown.lists.is_unsure {
            incomplete.push(Incomplete {
                path: directory.clone(),
                problem: UNSURE.to_owned(),
            });
        }
    }
    Ok(shown.fetches)
}

/// What the fetches of one chain after the other say of a certificate; of each the oldest first.
pub(in crate::audit) struct ShownFetches {
    lists: Lists,
    pub(super) fetches: CertificateFetches,
    was_unsure: bool,
}

impl ShownFetches {
    /// The fetches that matter to a filter with a certificate.
    pub(in crate::audit) fn wanted(filter: &Filter) -> Filter {
        Filter {
            kind: Some("fetch".to_owned()),
            group: filter.group.clone(),
            username: filter.username.clone(),
            until: filter.until,
            ..Filter::default()
        }
    }

    pub(in crate::audit) fn of(certificate: i64) -> Self {
        Self {
            lists: Lists::of(certificate),
            fetches: CertificateFetches::default(),
            was_unsure: false,
        }
    }

    pub(in crate::audit) fn begin_chain(&mut self) {
        self.was_unsure |= self.lists.is_unsure;
        self.lists = Lists::of(self.lists.certificate);
    }

    pub(in crate::audit) fn add(&mut self, found: &Found<'_>) {
        self.lists.add(found, &mut self.fetches);
    }

    /// Whether some lists cannot be told.
    pub(in crate::audit) fn is_unsure(&self) -> bool {
        self.was_unsure || self.lists.is_unsure
    }

    /// The filter with a certificate whose fetches these are, made ready for lines.
    pub(in crate::audit) fn line_filter(self, filter: &Filter) -> LineFilter<'_> {
        let mut lines = LineFilter::new(filter);
        lines.shown = Some(self.fetches);
        lines
    }

    pub(in crate::audit) fn fill_ids(&self) -> Vec<Uuid> {
        let CertificateFetches { had, gone } = &self.fetches;
        had.union(gone).copied().collect()
    }
}

/// Whether the last list of each project and user had the certificate.
struct Lists {
    certificate: i64,
    last: HashMap<ListKey, LastFetch>,
    /// A fetch builds on one that is not there, or there were more serial numbers than its record holds.
    is_unsure: bool,
}

#[derive(PartialEq, Eq, Hash)]
struct ListKey {
    group_id: Box<str>,
    username: Box<str>,
}

struct LastFetch {
    fill_id: Uuid,
    had: bool,
}

#[derive(Deserialize)]
struct FetchMembers<'a> {
    #[serde(borrow)]
    group_id: Cow<'a, str>,
    #[serde(borrow)]
    username: Cow<'a, str>,
    fill_id: Uuid,
    status: Option<u16>,
    certificates: Option<u64>,
    before: Option<Uuid>,
    #[serde(default)]
    appeared: Vec<i64>,
    #[serde(default)]
    vanished: Vec<i64>,
    #[serde(default)]
    expired: Vec<i64>,
    #[serde(default)]
    appeared_more: u64,
    #[serde(default)]
    vanished_more: u64,
    #[serde(default)]
    expired_more: u64,
}

impl Lists {
    fn of(certificate: i64) -> Self {
        Self {
            certificate,
            last: HashMap::new(),
            is_unsure: false,
        }
    }

    fn add(&mut self, found: &Found<'_>, shown: &mut CertificateFetches) {
        let Ok(fetch) = serde_json::from_str::<FetchMembers<'_>>(found.line) else {
            return;
        };
        let appeared = fetch.appeared.contains(&self.certificate);
        let gone =
            fetch.vanished.contains(&self.certificate) || fetch.expired.contains(&self.certificate);
        if fetch.certificates.is_none() && fetch.status != Some(404) {
            // It failed, and says nothing of any list.
            return;
        }
        let key = ListKey {
            group_id: Box::from(fetch.group_id),
            username: Box::from(fetch.username),
        };
        let last = self.last.get(&key);
        let before = last.filter(|last| Some(last.fill_id) == fetch.before);
        let had_before = before.is_some_and(|before| before.had);
        let had = appeared || (had_before && !gone);
        self.is_unsure |= (fetch.before.is_some() && before.is_none() && !appeared && !gone)
            || (!had && fetch.appeared_more > 0)
            || (had_before && !gone && fetch.vanished_more + fetch.expired_more > 0);
        if had {
            shown.had.insert(fetch.fill_id);
        } else if gone {
            shown.gone.insert(fetch.fill_id);
        }
        let fill_id = fetch.fill_id;
        self.last.insert(key, LastFetch { fill_id, had });
    }
}

pub(in crate::audit) const UNSURE: &str = "some lists cannot be told from what is left of their fetches; who was shown the \
                      certificate from them is not found";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const ID: [&str; 4] = [
        "0198a3f0-0000-7000-8000-000000000001",
        "0198a3f0-0000-7000-8000-000000000002",
        "0198a3f0-0000-7000-8000-000000000003",
        "0198a3f0-0000-7000-8000-000000000004",
    ];

    fn fetch(fill: usize, rest: &str) -> String {
        let id = ID[fill];
        format!("{{\"group_id\":\"g\",\"username\":\"app\",\"fill_id\":\"{id}\"{rest}}}")
    }

    /// Which fetches had it, with which it went, and whether some cannot be told.
    type Told = (Vec<usize>, Vec<usize>, bool);

    fn read(lines: &[String]) -> Told {
        let (mut lists, mut shown) = (Lists::of(7), CertificateFetches::default());
        for line in lines {
            lists.add(&Found { line, seq: 1 }, &mut shown);
        }
        let which = |ids: &HashSet<Uuid>| {
            let fills = (0..4).filter(|fill| ids.contains(&ID[*fill].parse().unwrap()));
            fills.collect()
        };
        (which(&shown.had), which(&shown.gone), lists.is_unsure)
    }

    #[test]
    fn a_list_has_what_appeared_until_it_vanishes() {
        let lines = [
            fetch(0, ",\"certificates\":1,\"appeared\":[7]"),
            fetch(1, &format!(",\"certificates\":1,\"before\":\"{}\"", ID[0])),
            // It failed.
            fetch(3, ",\"certificates\":null"),
            fetch(
                2,
                &format!(
                    ",\"certificates\":0,\"before\":\"{}\",\"vanished\":[7]",
                    ID[1]
                ),
            ),
            fetch(3, &format!(",\"certificates\":0,\"before\":\"{}\"", ID[2])),
        ];
        let mut ended = lines.clone();
        ended[3] = ended[3].replace("vanished", "expired");
        assert_eq!(read(&ended), (vec![0, 1], vec![2], false));
        assert_eq!(read(&lines), (vec![0, 1], vec![2], false));
        // The first fetch of a process names all.
        let restarted = [
            lines[0].clone(),
            fetch(1, ",\"certificates\":1,\"appeared\":[8]"),
        ];
        assert_eq!(read(&restarted), (vec![0], vec![], false));
    }

    #[test]
    fn what_cannot_be_told_is_said() {
        let before = format!(",\"certificates\":1,\"before\":\"{}\"", ID[0]);
        assert_eq!(read(&[fetch(1, &before)]), (vec![], vec![], true));
        let many = ",\"certificates\":80,\"appeared\":[1,2],\"appeared_more\":78";
        assert_eq!(read(&[fetch(0, many)]), (vec![], vec![], true));
    }
}
