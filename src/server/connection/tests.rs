use std::future::{Ready, ready};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpListener;

use super::*;
use crate::atlas::Timestamp;
use crate::server;
use crate::server::body::payload::ResponseBody;
use crate::telemetry::Metrics;

struct EmptyHandler;

impl Handler for EmptyHandler {
    type Answer = Ready<Response<ResponseBody>>;

    fn handle(self: &Arc<Self>, _: Request<Incoming>, _: &Arc<ConnectionPeer>) -> Self::Answer {
        ready(Response::default())
    }
}

#[tokio::test]
async fn a_connection_that_has_said_nothing_takes_less_than_four_kilobytes() {
    let (clock, _hands) = Clock::manual(Timestamp::from_seconds(0));
    let (metrics, _) = Metrics::register();
    let limits = server::Config::default().limits;
    let listener_state = Listener {
        unsent: UnsentBudget::new(&limits, None, metrics.lookups.clone()),
        limits,
        tls: None,
        trusted_proxies: Proxies::default(),
        proxy_protocol: false,
        clock,
        stop: CancellationToken::new(),
        abort: CancellationToken::new(),
        tasks: TaskTracker::new(),
        metrics: metrics.lookups,
        memory: Memory::default(),
        refusals: metrics.connections,
        bodies: false,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _caller = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (stream, address) = listener.accept().await.unwrap();
    let slots = ConnectionSlots::new(1, 1, Eviction::Any, listener_state.refusals.clone());
    let slot = slots.acquire(Duration::ZERO).unwrap();
    let connection = listener_state.begin(stream, address, &slot, Arc::new(EmptyHandler));
    let size = size_of_val(&connection) + size_of::<ConnectionSlot>();
    assert!(size < 4_000, "{size}");
}
