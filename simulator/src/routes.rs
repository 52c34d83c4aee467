//! What Atlas answers to each request, when nothing is wrong with Atlas.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use crate::accounts::Projects;
use crate::answer::{Answer, Refusal};
use crate::atlas::{Atlas, Heard};
use crate::bucket::{BucketSize, Draw, EndpointSet};
use crate::credential::{Credential, Presented};
use crate::errors;
use crate::issuing;
use crate::listing;
use crate::listing::{Length, Link, Place};
use crate::oauth;
use crate::query;
use crate::query::ListQuery;
use crate::settings::Rules;
use crate::target::{Api, Endpoint, is_project_id, strictly_encoded};
use crate::world::{List, Project, X509Type};

/// Atlas's own answer.
pub(crate) fn answer(atlas: &Atlas, heard: &Heard, rules: &Rules) -> Answer {
    if heard.meaning.wrong_method {
        return errors::no_such_method(heard.method.as_str());
    }
    let x509 = EndpointSet::X509Authentication;
    let users = EndpointSet::DatabaseUsers;
    let answer = match heard.meaning.endpoint {
        Endpoint::Certificates => in_project(atlas, heard, rules, x509, certificates),
        Endpoint::CreateCertificate => in_project(atlas, heard, rules, x509, create),
        Endpoint::DatabaseUsers => in_project(atlas, heard, rules, users, database_users),
        Endpoint::RateLimits => rate_limits(atlas, heard, rules),
        Endpoint::Revoke => revoke(atlas, heard, rules),
        Endpoint::Token => token(atlas, heard, rules),
        Endpoint::Unknown => Err(errors::no_such_resource(heard.path()).into()),
    };
    answer.unwrap_or_else(|refusal| *refusal.0)
}

/// What a call does once it has been let into the project it names.
type InProject = fn(&Atlas, &Heard, &Rules, &str) -> Result<Answer, Refusal>;

/// The calls that concern one project. Each step refuses by itself; which of two mistakes Atlas
/// would name first is not documented.
fn in_project(
    atlas: &Atlas,
    heard: &Heard,
    rules: &Rules,
    set: EndpointSet,
    then: InProject,
) -> Result<Answer, Refusal> {
    let projects = identify(atlas, heard, rules)?;
    accept_version(heard.meaning.api, &heard.headers)?;
    let project = heard.meaning.project.as_deref().unwrap_or_default();
    if !is_project_id(project) {
        return Err(errors::invalid_group(project).into());
    }
    if !projects.include(project) {
        return Err(errors::no_access_to_group().into());
    }
    if atlas.world.with(|world| world.find(project).is_none()) {
        return Err(errors::no_such_group(project).into());
    }
    let size = match set {
        EndpointSet::DatabaseUsers => BucketSize::DATABASE_USERS,
        EndpointSet::X509Authentication => rules.bucket,
    };
    let now = atlas.now();
    let remaining = match atlas
        .buckets
        .with(|buckets| buckets.draw(set, project, &size, now))
    {
        Draw::Granted { remaining } => remaining,
        Draw::Refused { wait_seconds } => {
            let name = heard.path().trim_start_matches('/');
            let refusal = errors::bucket_empty(name, wait_seconds, &size);
            return Err(with_limits(refusal, &size, 0).into());
        }
    };
    let answer = then(atlas, heard, rules, project);
    Ok(with_limits(
        answer.unwrap_or_else(|refusal| *refusal.0),
        &size,
        remaining,
    ))
}

/// `GET …/databaseUsers/{username}/certs`
fn certificates(
    atlas: &Atlas,
    heard: &Heard,
    rules: &Rules,
    project: &str,
) -> Result<Answer, Refusal> {
    let query = ListQuery::read(heard.query()).map_err(|wrong| errors::invalid_query(&wrong.0))?;
    let username = managed_user(atlas, heard, project)?;
    let now = atlas.now();
    // Copied out, so that the world is not held while a page is written.
    let list = atlas.world.with(|world| {
        let project = world.find(project);
        project.map(|project| project.list(username, now))
    });
    let List {
        certificates,
        total,
    } = list.unwrap_or_default();
    let held = certificates.len();
    let results = certificates
        .iter()
        .skip(query.skipped())
        .take(query.taken())
        .map(|certificate| certificate.listed(project))
        .collect();
    let place = place(heard, rules);
    let mut answer = listing::page(
        place,
        &query,
        results,
        Length {
            held,
            counted: total,
        },
    );
    let method = "ApiAtlasV2DatabaseUsersResource::getValidCertsByUsername";
    answer
        .headers
        .insert("x-java-method", HeaderValue::from_static(method));
    Ok(answer)
}

/// `POST …/databaseUsers/{username}/certs`
fn create(atlas: &Atlas, heard: &Heard, _: &Rules, project: &str) -> Result<Answer, Refusal> {
    let months = issuing::months(&heard.body)
        .ok_or_else(|| errors::invalid_body("monthsUntilExpiration"))?;
    let username = managed_user(atlas, heard, project)?;
    let now = atlas.now();
    let not_after = issuing::months_later(now, months);
    let serial = atlas.world.with(|world| {
        world
            .at(now)
            .project(project)
            .user(username)
            .certificate_until(not_after)
    });
    // Observed: PEM text, certificate and key, under a JSON content type.
    let mut answer = Answer::bytes(StatusCode::CREATED, issuing::pem(serial).into_bytes());
    let content_type = listing::content_type(heard.meaning.api);
    answer.headers.insert(CONTENT_TYPE, content_type);
    Ok(answer)
}

/// `GET …/databaseUsers`
fn database_users(
    atlas: &Atlas,
    heard: &Heard,
    rules: &Rules,
    project: &str,
) -> Result<Answer, Refusal> {
    let query = ListQuery::read(heard.query()).map_err(|wrong| errors::invalid_query(&wrong.0))?;
    let place = place(heard, rules);
    let own = |name: &str| Link {
        href: format!(
            "{}{}/$external/{}",
            place.host,
            place.path,
            strictly_encoded(name)
        ),
        rel: "self",
    };
    Ok(atlas.world.with(|world| {
        let users = || world.find(project).into_iter().flat_map(Project::users);
        let on_page = users().skip(query.skipped()).take(query.taken());
        let results = on_page.map(|(name, kind)| {
            json!({
                "awsIAMType": "NONE",
                "databaseName": if kind == X509Type::None { "admin" } else { "$external" },
                "groupId": project,
                "labels": [],
                "ldapAuthType": "NONE",
                "links": [own(name)],
                "oidcAuthType": "NONE",
                "roles": [{"databaseName": "admin", "roleName": "readAnyDatabase"}],
                "scopes": [],
                "username": name,
                "x509Type": kind.as_str(),
            })
        });
        listing::page(
            place,
            &query,
            results.collect(),
            Length::exact(users().count()),
        )
    }))
}

/// `GET /api/atlas/v2/rateLimits`
fn rate_limits(atlas: &Atlas, heard: &Heard, rules: &Rules) -> Result<Answer, Refusal> {
    identify(atlas, heard, rules)?;
    let query = ListQuery::read(heard.query()).map_err(|wrong| errors::invalid_query(&wrong.0))?;
    let set = |id: &str, name: &str, size: &BucketSize| {
        let value = |value: u64| json!({"value": value, "defaultValue": value});
        json!({
            "endpointSetId": id,
            "endpointSetName": name,
            "scope": "GROUP",
            "capacity": value(size.capacity),
            "refillRate": value(size.refill),
            "refillDurationSeconds": value(size.period.as_secs()),
        })
    };
    let sets = vec![
        set(
            "databaseUsers",
            "Database Users",
            &BucketSize::DATABASE_USERS,
        ),
        set("x509Authentication", "X509 Authentication", &rules.bucket),
    ];
    Ok(listing::page(
        place(heard, rules),
        &query,
        sets,
        Length::exact(2),
    ))
}

/// `POST /api/oauth/token`
fn token(atlas: &Atlas, heard: &Heard, rules: &Rules) -> Result<Answer, Refusal> {
    let credential = oauth::basic_credential(&heard.headers);
    let now = atlas.now();
    let tokens = &atlas.authenticator.tokens;
    // Requests are counted per client id, whether their secret is right or wrong.
    let client_id = credential
        .as_ref()
        .map(|(id, _)| id.as_str())
        .unwrap_or_default();
    if !tokens.with(|tokens| tokens.admit(client_id, &rules.tokens, now)) {
        return Err(errors::too_many_mints(rules.tokens.per_minute).into());
    }
    let account = oauth::account(&rules.service_accounts, credential.as_ref());
    let account = account.ok_or_else(invalid_client)?;
    atlas
        .recorder
        .identified(heard.number, Credential::Basic(account.client_id.clone()));
    if let Some(refusal) = oauth::form_mistake(&heard.headers, &form(heard)) {
        return Err(refusal.into());
    }
    Ok(tokens.with(|tokens| tokens.mint(&account.client_id, &rules.tokens, now)))
}

/// `POST /api/oauth/revoke`
fn revoke(atlas: &Atlas, heard: &Heard, rules: &Rules) -> Result<Answer, Refusal> {
    let credential = oauth::basic_credential(&heard.headers);
    let account = oauth::account(&rules.service_accounts, credential.as_ref());
    let account = account.ok_or_else(invalid_client)?;
    atlas
        .recorder
        .identified(heard.number, Credential::Basic(account.client_id.clone()));
    let form = form(heard);
    let Some(token) = query::value(&form, "token") else {
        let description = "The token is missing.";
        let status = StatusCode::BAD_REQUEST;
        return Err(errors::oauth_error(status, "invalid_request", description).into());
    };
    Ok(atlas
        .authenticator
        .tokens
        .with(|tokens| tokens.revoke(&account.client_id, &token)))
}

/// Who asks, and whether from an address that may; returns the projects that this opens.
fn identify(atlas: &Atlas, heard: &Heard, rules: &Rules) -> Result<Projects, Refusal> {
    let presented = Presented {
        method: heard.method.as_str(),
        target: &heard.target,
        headers: &heard.headers,
    };
    let (credential, projects) = atlas
        .authenticator
        .identify(presented, rules, atlas.now())?;
    atlas.recorder.identified(heard.number, credential);
    let address = heard.peer.ip();
    if rules
        .access_list
        .as_ref()
        .is_some_and(|listed| !listed.contains(&address))
    {
        return Err(errors::address_not_listed(&address.to_string()).into());
    }
    Ok(projects)
}

/// v2 takes exactly one version on these endpoints. A later date is said to resolve to it, and was
/// seen refused too; so it is refused here, and a client has to send what is sure to work.
fn accept_version(api: Api, headers: &HeaderMap) -> Result<(), Refusal> {
    let accepted = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut kinds = accepted
        .flat_map(|value| value.split(','))
        .map(|kind| kind.split(';').next().unwrap_or_default().trim());
    let acceptable = match api {
        Api::V1 => {
            !headers.contains_key(ACCEPT)
                || kinds.any(|kind| matches!(kind, "application/json" | "application/*" | "*/*"))
        }
        Api::V2 => kinds.any(|kind| kind == "application/vnd.atlas.2023-01-01+json"),
    };
    if acceptable {
        Ok(())
    } else {
        Err(errors::invalid_version().into())
    }
}

/// The user that the path names, if there is one with managed certificates.
fn managed_user<'a>(atlas: &Atlas, heard: &'a Heard, project: &str) -> Result<&'a str, Refusal> {
    let name = heard.meaning.username.as_deref().unwrap_or_default();
    let kind = atlas
        .world
        .with(|world| world.find(project).and_then(|found| found.user(name)));
    match kind {
        Some(X509Type::Managed) if !heard.meaning.misspelt => Ok(name),
        Some(X509Type::Customer | X509Type::None) if !heard.meaning.misspelt => {
            Err(errors::user_not_managed().into())
        }
        _ => Err(errors::no_such_user(name).into()),
    }
}

fn place<'a>(heard: &'a Heard, rules: &'a Rules) -> Place<'a> {
    Place {
        api: heard.meaning.api,
        host: &rules.public_host,
        path: heard.path(),
    }
}

/// The two headers that Atlas adds once a call has drawn from a bucket. There is no third.
fn with_limits(mut answer: Answer, size: &BucketSize, remaining: u64) -> Answer {
    answer
        .headers
        .insert("ratelimit-limit", size.capacity.into());
    answer
        .headers
        .insert("ratelimit-remaining", remaining.into());
    answer
}

fn form(heard: &Heard) -> String {
    String::from_utf8_lossy(&heard.body).into_owned()
}

fn invalid_client() -> Answer {
    let description = "Invalid credentials provided.";
    errors::oauth_error(StatusCode::UNAUTHORIZED, "invalid_client", description)
}
