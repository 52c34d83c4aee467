//! The question that Atlas's Go SDK and CLI ask, beside the bare URL, in instructions: it asks for the first
//! page of a list, which for a short one shows the same.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::callgrind;
use crate::load::{Ask, Load, Protocol};
use crate::site::{Site, Tuning, Users};
use crate::table::rounded;

/// Compares both on lists of so many certificates, plain and compressed.
pub(crate) async fn compare(site: &Site, lists: &[u32]) -> Value {
    let mut figures = Vec::new();
    for certificates in lists {
        let name = format!("payments-sdk-{certificates}");
        let users = Users {
            name: name.leak(),
            count: 1,
            certificates: *certificates,
        };
        let bare = site.asks(users, &site.tokens(1)).remove(0);
        for (accepts, encoding) in [("plain", None), ("gzip", Some("gzip"))] {
            let of = async |query: &str| {
                let ask = bare.clone().query(query);
                let ask = match encoding {
                    Some(encoding) => ask.with("accept-encoding", encoding),
                    None => ask,
                };
                instructions(site, &ask).await
            };
            let (Some(bare), Some(sdk)) = (of("").await, of(QUERY).await) else {
                println!("there is no valgrind to count instructions with");
                return Value::Null;
            };
            let ratio = sdk as f64 / bare as f64;
            println!(
                "sdk              {certificates:>5} certificates, {accepts:<5}: {bare} instructions for the bare \
                 URL, {sdk} for the SDK's: {ratio:.2} ×"
            );
            figures.push(json!({
                "certificates": certificates, "accepts": accepts, "bare": bare, "sdk": sdk,
                "ratio": rounded(ratio),
            }));
        }
    }
    Value::Array(figures)
}

async fn instructions(site: &Site, ask: &Ask) -> Option<u64> {
    let load = Arc::new(Load::new(std::slice::from_ref(ask), Protocol::Http1, 200));
    let command = site.gateway(Tuning::USUAL);
    let counted = callgrind::per_answer(&command, &load, &callgrind::Plan::HITS).await?;
    Some(counted.own)
}

const QUERY: &str = "?includeCount=true&itemsPerPage=100&pageNum=1";
