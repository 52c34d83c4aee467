//! The socket: accepts connections, goes down and comes up again on the same port.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::atlas::Atlas;
use crate::connection;
use crate::stream::Stream;

/// A server that runs until it is dropped: its task ends when its last handle does, and its connections
/// end with the task.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    orders: mpsc::Sender<Order>,
    accepted: Arc<AtomicUsize>,
    open: Open,
}

/// Counts connections while their tasks live.
#[derive(Clone, Debug, Default)]
struct Open(Arc<()>);

impl Open {
    fn count(&self) -> usize {
        // Each connection holds one, as do the server and its listener.
        Arc::strong_count(&self.0).saturating_sub(2)
    }
}

impl Server {
    pub(crate) fn start(
        listen: SocketAddr,
        tls: Option<TlsAcceptor>,
        atlas: Arc<Atlas>,
    ) -> io::Result<Self> {
        let listener = bind(listen)?.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let (orders, received) = mpsc::channel(1);
        let accepted = Arc::new(AtomicUsize::new(0));
        let open = Open::default();
        let listener = Listener {
            state: State::Open(listener),
            address,
            tls,
            atlas,
            accepted: Arc::clone(&accepted),
            open: open.clone(),
            connections: JoinSet::new(),
        };
        tokio::spawn(listener.run(received));
        Ok(Self {
            address,
            orders,
            accepted,
            open,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(crate) fn open(&self) -> usize {
        self.open.count()
    }

    /// Ends every connection and refuses new ones.
    pub(crate) async fn go_down(&self) -> io::Result<()> {
        self.order(Order::GoDown).await
    }

    /// Accepts connections again, at the same address.
    pub(crate) async fn come_up(&self) -> io::Result<()> {
        self.order(Order::ComeUp).await
    }

    async fn order(&self, order: impl FnOnce(Done) -> Order) -> io::Result<()> {
        let gone = || io::Error::other("the simulator has ended");
        let (done, wait) = oneshot::channel();
        self.orders.send(order(done)).await.map_err(|_| gone())?;
        wait.await.map_err(|_| gone())?
    }
}

type Done = oneshot::Sender<io::Result<()>>;

#[derive(Debug)]
enum Order {
    ComeUp(Done),
    GoDown(Done),
}

struct Listener {
    state: State,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    atlas: Arc<Atlas>,
    accepted: Arc<AtomicUsize>,
    open: Open,
    connections: JoinSet<()>,
}

#[derive(Debug)]
enum State {
    Open(TcpListener),
    /// Bound but not listening: connections are refused, and no other process can take the port.
    Shut(TcpSocket),
    /// Between the two, or after listening has failed.
    Unbound,
}

impl Listener {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    None => return,
                    Some(Order::ComeUp(done)) => {
                        let _ = done.send(self.open());
                    }
                    Some(Order::GoDown(done)) => {
                        let outcome = self.shut();
                        self.connections.shutdown().await;
                        let _ = done.send(outcome);
                    }
                },
                // Accepting fails when descriptors run out or a client has gone; the next may work.
                Ok((tcp, peer)) = accept(&self.state) => self.admit(tcp, peer),
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    fn open(&mut self) -> io::Result<()> {
        let socket = match std::mem::replace(&mut self.state, State::Unbound) {
            State::Open(listener) => {
                self.state = State::Open(listener);
                return Ok(());
            }
            State::Shut(socket) => socket,
            State::Unbound => bind(self.address)?,
        };
        self.state = State::Open(socket.listen(BACKLOG)?);
        Ok(())
    }

    fn shut(&mut self) -> io::Result<()> {
        if matches!(self.state, State::Open(_)) {
            // Bound before the listener is closed, or another process could take the port in between.
            self.state = State::Shut(bind(self.address)?);
        }
        Ok(())
    }

    fn admit(&mut self, tcp: TcpStream, peer: SocketAddr) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let atlas = Arc::clone(&self.atlas);
        let tls = self.tls.clone();
        let open = self.open.clone();
        self.connections.spawn(async move {
            // Without it small answers would wait for the client's acknowledgement.
            let _ = tcp.set_nodelay(true);
            let stream = match tls {
                None => Stream::plain(tcp),
                Some(tls) => match tls.accept(tcp).await {
                    Ok(tls) => Stream::tls(tls),
                    // The client did not like our certificate; that is what some tests are about.
                    Err(_) => return,
                },
            };
            connection::serve(stream, peer, atlas).await;
            drop(open);
        });
    }
}

async fn accept(state: &State) -> io::Result<(TcpStream, SocketAddr)> {
    match state {
        State::Open(listener) => listener.accept().await,
        State::Shut(_) | State::Unbound => pending().await,
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

const BACKLOG: u32 = 1024;
