//! Tokens of service accounts: few, shared, renewed in time, and given back.

mod endpoint;
mod kept;
mod lost_access;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use atlas_cert_gateway::upstream::{
    CredentialFailure, CredentialUnavailable, FetchErrorKind, Upstream, Urgency,
};
use atlas_simulator::{Asked, CLIENT_ID, CLIENT_SECRET, Endpoint, Fault, ServiceAccount};
use futures_util::future::join_all;
use http::StatusCode;
use tokio_util::sync::CancellationToken;

use crate::upstream::world::{OTHER, PROJECT, World, outcome, query, service_account};

#[tokio::test]
async fn any_number_of_callers_share_one_mint() {
    let world = World::new().await;
    let mints = world.atlas.on(Asked::token()).hold();
    let asked = join_all((0..50).map(|_| world.ask_at_once()));
    let (answers, ()) = tokio::join!(asked, async {
        mints.arrived(1).await;
        mints.open();
    });
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(world.atlas.mints(), 1);
}

/// G25, G27: a token that cannot have been made is not counted as one that lives.
#[tokio::test]
async fn forty_minutes_without_a_connection_use_up_no_tokens_and_the_next_one_comes_at_once() {
    let world = World::new().await;
    world.atlas.stop_accepting().await.unwrap();
    for _ in 0..40 * 12 {
        assert!(world.ask_at_once().await.is_err());
        world.manual_clock.advance(Duration::from_secs(5));
    }
    world.atlas.resume().await.unwrap();
    world.manual_clock.advance(Duration::from_secs(5));
    world.ask_at_once().await.unwrap();
    assert_eq!(world.atlas.mints(), 1);
}

#[tokio::test]
async fn a_mint_goes_on_when_the_caller_who_needed_it_leaves() {
    let world = World::new().await;
    let mints = world.atlas.on(Asked::token()).hold();
    let first = query(PROJECT, "app1");
    let leaver = world.upstream.fetch(&first, Urgency::Miss.into());
    tokio::select! {
        _ = leaver => panic!("nothing can have been answered"),
        () = mints.arrived(1) => {}
    }
    mints.open();
    world.ask().await.unwrap();
    assert_eq!(world.atlas.mints(), 1);
}

#[tokio::test]
async fn the_id_and_the_secret_are_sent_raw_and_nowhere_else() {
    let world = World::new().await;
    world.ask().await.unwrap();
    let requests = world.atlas.requests();
    let mint = requests
        .iter()
        .find(|seen| seen.endpoint == Endpoint::Token)
        .unwrap();
    assert_eq!(&mint.body[..], b"grant_type=client_credentials");
    let content_type = &mint.headers["content-type"];
    assert_eq!(content_type, "application/x-www-form-urlencoded");
    assert!(!world.atlas.saw_anywhere(CLIENT_SECRET));
}

#[tokio::test]
async fn u20_a_token_that_ended_early_is_replaced_once_for_all_callers() {
    let world = World::new().await;
    world.ask().await.unwrap();
    world.atlas.revoke_all_tokens();
    let asked = join_all((0..30).map(|_| world.ask_at_once()));
    assert!(world.pass_time(asked).await.iter().all(Result::is_ok));
    assert_eq!(world.atlas.mints(), 2);
}

#[tokio::test]
async fn u21_a_token_that_is_never_accepted_is_replaced_once_a_minute_and_named_in_readiness() {
    let world = World::new().await;
    let refusal = Fault::api_error(401, "UNAUTHORIZED", "No.");
    let planted = world.atlas.on(Asked::certificates()).respond(refusal);
    for _ in 0..10 {
        assert_eq!(outcome(&world.ask().await), "401 UNAUTHORIZED");
    }
    assert_eq!(world.atlas.mints(), 2);
    assert_eq!(
        world.upstream.readiness()[0].why,
        CredentialUnavailable::Key
    );
    world.manual_clock.advance(Duration::from_mins(1));
    assert_eq!(outcome(&world.ask().await), "401 UNAUTHORIZED");
    assert_eq!(world.atlas.mints(), 3);
    planted.withdraw();
    world.ask().await.unwrap();
    assert_eq!(world.upstream.readiness(), []);
}

#[tokio::test]
async fn a_401_that_names_a_missing_permission_is_believed_of_a_fresh_token() {
    let world = World::with(
        |settings| {
            settings.world.project(OTHER).user("app1").certificates(1);
            let account = ServiceAccount::new(CLIENT_ID, CLIENT_SECRET).only(&[PROJECT]);
            settings.rules.service_accounts = vec![account];
        },
        |_| (),
    )
    .await;
    for _ in 0..3 {
        let result = world.ask_for(OTHER, "app1", Urgency::Miss).await;
        assert_eq!(outcome(&result), "401 USER_CANNOT_ACCESS_GROUP");
    }
    assert_eq!(
        (world.atlas.mints(), world.atlas.certificate_calls()),
        (1, 3)
    );
    assert_eq!(world.upstream.readiness(), []);
    world.ask().await.unwrap();
}

#[tokio::test]
async fn a_token_is_renewed_in_the_background_while_the_old_one_is_used() {
    let world = World::new().await;
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (upstream, stop): (Upstream, _) = (world.upstream.clone(), stop.clone());
        async move { upstream.run(stop).await }
    });
    world.ask().await.unwrap();
    assert_eq!(world.atlas.mints(), 1);
    world.manual_clock.advance(Duration::from_mins(44));
    world.ask().await.unwrap();
    assert_eq!(world.atlas.mints(), 1);
    let renewal = world.atlas.on(Asked::token()).hold();
    world.manual_clock.advance(Duration::from_mins(2));
    renewal.arrived(1).await;
    // Nobody waits for it.
    world.ask_at_once().await.unwrap();
    renewal.open();
    world
        .pass_time(async {
            while world.atlas.mints() < 2 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    // Two an hour at most.
    world.manual_clock.advance(Duration::from_mins(30));
    world.ask().await.unwrap();
    assert_eq!(world.atlas.mints(), 2);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn f23_a_secret_that_was_rotated_is_taken_up_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    write_secret(&file, CLIENT_SECRET);
    let world = World::with(
        |_| (),
        |config| {
            let account = config.credentials[0].service_account.as_mut().unwrap();
            account.client_secret = None;
            account.client_secret_file = Some(file.clone());
        },
    )
    .await;
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (upstream, stop) = (world.upstream.clone(), stop.clone());
        async move { upstream.run(stop).await }
    });
    world.ask().await.unwrap();
    // The old secret and all its tokens are gone before the new secret has reached us.
    let fresh = "mdb_sa_sk_fresh";
    world
        .atlas
        .rules(|rules| rules.service_accounts = vec![ServiceAccount::new(CLIENT_ID, fresh)]);
    world.atlas.revoke_all_tokens();
    assert_eq!(outcome(&world.ask().await), "credential Refused");
    write_secret(&file, "");
    world.manual_clock.advance(Duration::from_secs(6));
    assert_eq!(outcome(&world.ask().await), "credential Refused");
    write_secret(&file, fresh);
    world.manual_clock.advance(Duration::from_secs(6));
    let asked = async {
        while world
            .upstream
            .fetch(&query(PROJECT, "app1"), Urgency::Miss.into())
            .await
            .is_err()
        {
            tokio::task::yield_now().await;
        }
    };
    world.pass_time(asked).await;
    assert!(world.manual_clock.passed() < Duration::from_secs(50));
    stop.cancel();
    running.await.unwrap();
}

fn write_secret(file: &std::path::Path, secret: &str) {
    fs::write(file, secret).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn each_project_is_asked_with_the_first_credential_that_covers_it_and_their_failures_are_apart()
 {
    let world = World::with(
        |settings| {
            settings.world.project(OTHER).user("app1").certificates(3);
            let second = ServiceAccount::new("mdb_sa_id_second", "second");
            settings.rules.service_accounts.push(second);
        },
        |config| {
            let mut other = service_account();
            other.name = "other".to_owned();
            other.projects = vec![OTHER.to_owned()];
            let account = other.service_account.as_mut().unwrap();
            account.client_id = "mdb_sa_id_second".to_owned();
            account.client_secret = Some("wrong".to_owned().into());
            config.credentials.insert(0, other);
        },
    )
    .await;
    let refused = world
        .ask_for(OTHER, "app1", Urgency::Miss)
        .await
        .unwrap_err();
    assert!(matches!(
        refused.reason,
        FetchErrorKind::Credential(CredentialFailure::Refused(StatusCode::UNAUTHORIZED))
    ));
    assert_eq!(refused.stats.credential.as_ref(), "other");
    assert_eq!(
        world.ask().await.unwrap().stats.credential.as_ref(),
        "platform"
    );
    let not_ready = world.upstream.readiness();
    let names: Vec<&str> = not_ready
        .iter()
        .map(|one| one.credential.as_ref())
        .collect();
    assert_eq!(names, ["other"]);
}

#[tokio::test]
async fn trying_the_credentials_online_finds_those_that_atlas_does_not_accept() {
    let world = World::new().await;
    let good = world.pass_time(world.upstream.check_online(&[])).await;
    assert!(good[0].problem.is_none(), "{good:?}");
    world
        .atlas
        .rules(|rules| rules.access_list = Some(Vec::new()));
    let bad = world.pass_time(world.upstream.check_online(&[])).await;
    let problem = bad[0].problem.as_ref().unwrap();
    assert!(matches!(&problem.reason, FetchErrorKind::Atlas(answer) if answer.status == 403));
}
