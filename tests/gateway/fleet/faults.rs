//! What callers get, and what it costs, whatever befalls the engine.

use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

use super::{two_replicas, until_connected_is};
use crate::harness::engine::Engine;
use crate::world::{PROJECT, Plan, World, set, write_private};

#[derive(Clone, Copy, Debug)]
enum Fault {
    CutInReply,
    Flushed,
    Killed,
    Loading,
    NoFunctions,
    NoRights,
    OutOfMemory,
    ReadOnly,
    RestartedEmpty,
    Stopped,
    UserOff,
    WrongPassword,
}

type Row = (Fault, &'static str, &'static str, usize);

/// Each fault; what readiness says of the engine once the replicas have met it, nothing if they share; what then comes
/// of the functions by which lists are asked for, and the calls of Atlas for a list that both are asked for.
const FAULTS: [Row; 12] = [
    (Fault::CutInReply, "spend: ", "alone", 2),
    (Fault::Flushed, "", "ok", 1),
    (Fault::Killed, "cannot reach it", "alone", 2),
    (Fault::Loading, "BusyLoading", "alone", 2),
    (Fault::NoFunctions, "", "ok", 1),
    (Fault::NoRights, "no permissions", "alone", 2),
    (Fault::OutOfMemory, "raise `maxmemory`", "refused", 2),
    (Fault::ReadOnly, "read only replica", "alone", 2),
    (Fault::RestartedEmpty, "", "ok", 1),
    (Fault::Stopped, "did not answer in time", "alone", 2),
    (Fault::UserOff, "WRONGPASS", "alone", 2),
    (Fault::WrongPassword, "WRONGPASS", "alone", 2),
];

#[tokio::test]
async fn whatever_befalls_the_engine_callers_are_answered() {
    let mut wrong = Vec::new();
    for (fault, problem, result, calls) in FAULTS {
        let Some(mut engine) = Engine::start().await else {
            return;
        };
        let user = "ACL SETUSER gateway on >secret +@all ~* &*";
        engine.command(&words(user)).await;
        let file = engine.socket().with_file_name("password");
        write_private(&file, "secret");
        let replicas = two_replicas(&engine, |plan: &mut Plan| {
            let password = file.display().to_string();
            set(&mut plan.config, "fleet.username", "gateway");
            set(&mut plan.config, "fleet.password_file", password);
            let mut project = plan.atlas.world.project(PROJECT);
            project.user("app2").certificates(1);
        })
        .await;
        let [first, second] = &replicas;
        assert_eq!(first.ask("app1").await.status, 200);
        befall(&mut engine, fault).await;
        // What is in memory is served, and who meets the fault is answered.
        assert_eq!(
            first.ask("app1").await.header("x-upstream-calls"),
            Some("0")
        );
        assert!(calls_for(&replicas, "app2").await <= 2, "{fault:?}");
        for world in &replicas {
            let settled = until_connected_is(world, u64::from(problem.is_empty()));
            first.while_time_passes(settled).await;
        }
        let opened = format!("fleet_operations_total{{operation=\"open\",result=\"{result}\"}}");
        let before = second.metric(&opened).await;
        // It has three pages.
        assert_eq!(calls_for(&replicas, "many").await, 3 * calls, "{fault:?}");
        assert!(second.metric(&opened).await > before, "{fault:?}");
        for world in &replicas {
            let report = world.admin("GET", "/readyz", "", "").await;
            assert_eq!(report.status, 200, "{fault:?}");
            let report = report.json();
            let mut degraded = report["degraded"].as_array().unwrap().iter();
            let told = degraded.find(|it| it["part"] == "fleet");
            let told = told.map(|it| it["problem"].as_str().unwrap());
            assert_eq!(told.is_none(), problem.is_empty(), "{fault:?}: {told:?}");
            if told.is_some_and(|told| !told.contains(problem)) {
                wrong.push(format!("{fault:?}: {told:?}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// Of each command that a client may send at once.
const LOADING: &[u8] = b"-LOADING is loading\r\n-LOADING is loading\r\n-LOADING is loading\r\n";

/// Asks both, one after the other; the calls of Atlas.
async fn calls_for([first, second]: &[World; 2], username: &str) -> usize {
    let before = first.atlas.certificate_calls();
    for world in [first, second] {
        let reply = first.while_time_passes(world.ask(username)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    first.atlas.certificate_calls() - before
}

async fn befall(engine: &mut Engine, fault: Fault) {
    let commands: &[&str] = match fault {
        // What follows a header of a map is awaited.
        Fault::CutInReply => answer_instead(engine, b"%7\r\n$6\r\nser", true),
        Fault::Flushed => &["FLUSHALL"],
        Fault::Killed => {
            engine.kill();
            &[]
        }
        Fault::Loading => answer_instead(engine, LOADING, false),
        Fault::NoFunctions => &["FUNCTION FLUSH"],
        Fault::NoRights => &["ACL SETUSER gateway -fcall"],
        Fault::OutOfMemory => &["CONFIG SET maxmemory 1"],
        Fault::ReadOnly => &["REPLICAOF 127.0.0.1 1"],
        Fault::RestartedEmpty => {
            engine.kill();
            engine.resume().await;
            &["ACL SETUSER gateway on >secret +@all ~* &*"]
        }
        Fault::Stopped => {
            engine.signal(Signal::STOP);
            &[]
        }
        Fault::UserOff => &["ACL SETUSER gateway off", "CLIENT KILL USER gateway"],
        Fault::WrongPassword => &[
            "ACL SETUSER gateway resetpass >other",
            "CLIENT KILL USER gateway",
        ],
    };
    for command in commands {
        engine.command(&words(command)).await;
    }
}

/// Whoever connects gets these bytes, whatever they ask, and then nothing or the end.
fn answer_instead(
    engine: &mut Engine,
    answer: &'static [u8],
    ends: bool,
) -> &'static [&'static str] {
    engine.kill();
    let listener = UnixListener::bind(engine.socket()).unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            // It may have hung up.
            let _ = stream.write_all(answer).await;
            if !ends {
                open.push(stream);
            }
        }
    });
    &[]
}

fn words(command: &str) -> Vec<&str> {
    command.split(' ').collect()
}
