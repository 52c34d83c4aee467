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
    NoFunctions,
    NoRights,
    OutOfMemory,
    ReadOnly,
    RestartedEmpty,
    Stopped,
    UserOff,
    WrongPassword,
}

type Row = (Fault, u64, &'static str, usize);

/// Each fault; whether the replicas are connected once they have met it, what then comes of the functions by which
/// lists are asked for, and the calls of Atlas for a list that both are asked for.
const FAULTS: [Row; 11] = [
    (Fault::CutInReply, 0, "alone", 2),
    (Fault::Flushed, 1, "ok", 1),
    (Fault::Killed, 0, "alone", 2),
    (Fault::NoFunctions, 1, "ok", 1),
    (Fault::NoRights, 0, "alone", 2),
    (Fault::OutOfMemory, 1, "refused", 2),
    (Fault::ReadOnly, 0, "alone", 2),
    (Fault::RestartedEmpty, 1, "ok", 1),
    (Fault::Stopped, 0, "alone", 2),
    (Fault::UserOff, 0, "alone", 2),
    (Fault::WrongPassword, 0, "alone", 2),
];

#[tokio::test]
async fn whatever_befalls_the_engine_callers_are_answered() {
    for (fault, connected, result, calls) in FAULTS {
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
            let settled = until_connected_is(world, connected);
            first.while_time_passes(settled).await;
        }
        let opened = format!("fleet_operations_total{{operation=\"open\",result=\"{result}\"}}");
        let before = second.metric(&opened).await;
        // It has three pages.
        assert_eq!(calls_for(&replicas, "many").await, 3 * calls, "{fault:?}");
        assert!(second.metric(&opened).await > before, "{fault:?}");
        for world in &replicas {
            let report = world.admin("GET", "/readyz", "", "").await;
            let is_degraded = report.text().contains("\"part\":\"fleet\"");
            assert_eq!(
                (report.status, is_degraded),
                (200, connected == 0),
                "{fault:?}"
            );
        }
    }
}

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
        Fault::CutInReply => {
            engine.kill();
            let listener = UnixListener::bind(engine.socket()).unwrap();
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    // It may have hung up.
                    let _ = stream.write_all(b"%7\r\n$6\r\nser").await;
                }
            });
            &[]
        }
        Fault::Flushed => &["FLUSHALL"],
        Fault::Killed => {
            engine.kill();
            &[]
        }
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

fn words(command: &str) -> Vec<&str> {
    command.split(' ').collect()
}
