//! F24, G25: killed and started again and again, the program stays far from Atlas's limits on tokens.

use std::env;
use std::time::Duration;

use atlas_simulator::{Asked, Ending, Fault};

use crate::client;
use crate::program::{Program, request, world};
use crate::world::every;

/// `RESTARTS=150 cargo test --test gateway restarts` is the long run.
///
/// Atlas mints ten tokens a minute at most and keeps a hundred alive, by the real clock. The first
/// processes are killed in the worst moment: Atlas has minted, and the answer has not arrived.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn f24_killed_and_started_again_and_again_it_is_never_locked_out() {
    let restarts = env::var_os("RESTARTS");
    let restarts = restarts.map_or(20, |number| number.to_str().unwrap().parse().unwrap());
    let (atlas, files) = world().await;
    for killed in 1..=KILLED_WHILE_MINTING {
        let lost = Fault::cut_before_head(Ending::Silence);
        let lost = atlas.on(Asked::token()).respond(lost);
        let program = Program::start(files.path());
        let ask = request("close");
        let waiting = client::exchange(program.address, &ask);
        let mut glances = every(Duration::from_millis(2));
        let minted = async {
            while atlas.mints() < killed {
                glances.tick().await;
            }
        };
        tokio::select! {
            _ = waiting => panic!("no caller can have been answered"),
            () = minted => program.signal("-KILL"),
        }
        lost.withdraw();
    }
    for restart in 0..restarts {
        let program = Program::start(files.path());
        // Some never come to answer anything.
        if restart % 4 != 1 {
            let reply = client::exchange(program.address, &request("close")).await;
            assert_eq!(reply.status, 200, "{restart}: {}", reply.text());
        }
        program.signal("-KILL");
    }
    assert_eq!(atlas.answers(403) + atlas.answers(429), 0);
    // Those that were lost, and one that all others have shared.
    assert_eq!(atlas.mints(), KILLED_WHILE_MINTING + 1);
}

/// As often as is allowed within a minute, less one.
const KILLED_WHILE_MINTING: usize = 4;
