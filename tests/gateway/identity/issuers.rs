//! The recipes of `docs/issuers.md`, read from there: each with a token of that issuer's shape, and what
//! the log says of the same token without the recipe.

use atlas_cert_gateway::atlas::Timestamp;
use serde_json::{Value, json};

use super::shapes;
use super::shapes::{Shape, Without};
use crate::log::listen;
use crate::tokens::{Issuer, Publisher, jwks};
use crate::world::{NOW, PROJECT, World, certs, set, set_rule};

const DOCUMENT: &str = include_str!("../../../docs/issuers.md");

#[tokio::test]
async fn k4_each_recipe_lets_its_issuers_token_in_and_without_it_the_log_says_what_to_set() {
    let now = Timestamp::parse(NOW).unwrap().seconds();
    let shapes = shapes::all(now);
    let headings = DOCUMENT.lines().filter_map(|line| line.strip_prefix("## "));
    let told: Vec<&str> = shapes.iter().map(|shape| shape.issuer).collect();
    assert!(headings.eq(told.iter().copied()), "{told:?}");
    for shape in shapes {
        let recipe = recipe(shape.issuer);
        let token = signed(&shape, &shape.claims, &recipe);
        let with = ask(&shape, Some(recipe.clone()), &token).await;
        assert_eq!(with.status, 200, "{}: {}", shape.issuer, with.log);
        let record = &with.record;
        assert_eq!(record["subject"], shape.subject, "{}", shape.issuer);
        assert_eq!(record["client_id"], json!(shape.client), "{}", shape.issuer);

        let (entry, told) = match shape.without {
            Without::Entry => (None, "add [[identity.issuers]]"),
            Without::Keys(told) => (Some(bare(&recipe)), told),
        };
        let without = ask(&shape, entry, &token).await;
        assert_eq!(without.status, 401, "{}", shape.issuer);
        assert!(
            without.log.contains(told),
            "{}: {}",
            shape.issuer,
            without.log
        );
        assert!(without.record["reason"].is_string(), "{}", without.record);

        // What another customer of the same issuer has is refused, and named.
        if let Some((claim, value)) = &shape.stranger {
            let mut claims = shape.claims.clone();
            *claims.pointer_mut(claim).unwrap() = value.clone();
            let token = signed(&shape, &claims, &recipe);
            let stranger = ask(&shape, Some(recipe), &token).await;
            assert_eq!(stranger.status, 401, "{}", shape.issuer);
            assert_eq!(
                stranger.record["reason"], "required claim",
                "{}",
                shape.issuer
            );
            assert!(
                stranger.log.contains("`required_claims`"),
                "{}",
                stranger.log
            );
        }
    }
}

/// What became of a token.
struct Asked {
    status: u16,
    record: Value,
    log: String,
}

/// Shows a token to a gateway whose one issuer is `entry`, or a stranger.
async fn ask(shape: &Shape, entry: Option<toml::Table>, token: &str) -> Asked {
    let mut document = jwks(&[&shape.key]);
    document["keys"]
        .as_array_mut()
        .unwrap()
        .extend(shape.beside.clone());
    let publisher = Publisher::serve(&document).await;
    let (log, _listening) = listen();
    let needs_bearer = entry
        .as_ref()
        .is_some_and(|entry| entry.contains_key("bearer_file"));
    let world = World::with(|plan| {
        if let Some(mut entry) = entry {
            entry.insert("jwks_url".to_owned(), publisher.url("/keys").into());
            // What is fetched from this machine needs none.
            entry.remove("ca_certificate");
            if needs_bearer {
                let file = plan.config["identity"]["issuers"][0]["hmac_secret_file"].clone();
                entry.insert("bearer_file".to_owned(), file);
            }
            set(&mut plan.config, "identity.issuers", vec![entry]);
        }
        set_rule(plan, 0, "subjects", vec![shape.subject]);
        set_rule(plan, 0, "scopes", shape.scopes.to_vec());
    })
    .await;
    let reply = world.send("GET", &certs(PROJECT, "app1"), token, &[]).await;
    // A token may be refused before the keys are there, which are fetched from the start on.
    if needs_bearer {
        world.until(|_| publisher.requests() > 0).await;
    }
    let bearer = format!("Bearer {}", crate::world::HMAC_SECRET);
    assert_eq!(
        publisher.authorization(),
        needs_bearer.then_some(bearer),
        "{}",
        shape.issuer
    );
    // Nothing of it is for the caller.
    assert!(!reply.text().contains("claim"), "{}", reply.text());
    Asked {
        status: reply.status,
        record: world.lookups()[0].clone(),
        log: log.text(),
    }
}

/// A token as the issuer would sign it.
fn signed(shape: &Shape, claims: &Value, recipe: &toml::Table) -> String {
    let mut header = shape.header.clone();
    header["kid"] = json!(shape.key.id);
    let mut claims = claims.clone();
    claims["iss"] = json!(recipe["issuer"].as_str().unwrap());
    let issuer = Issuer::new(0).signing_with(shape.key.clone());
    issuer.compact(&header.to_string(), &claims.to_string())
}

/// The recipe under a heading of the document.
fn recipe(heading: &str) -> toml::Table {
    let section = DOCUMENT
        .split("\n## ")
        .find(|section| section.starts_with(heading));
    let block = section.unwrap().split("```toml\n").nth(1).unwrap();
    let block: toml::Table = block.split("```").next().unwrap().parse().unwrap();
    let entries = block["identity"]["issuers"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "{heading}");
    entries[0].as_table().unwrap().clone()
}

/// The entry of an issuer that needs no recipe.
fn bare(recipe: &toml::Table) -> toml::Table {
    let usual = ["issuer", "audiences", "algorithms", "jwks_url"];
    let mut entry = recipe.clone();
    entry.retain(|key, _| usual.contains(&key));
    entry
}
