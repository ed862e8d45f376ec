//! The driver's network on a turmoil host.

use super::machine::Machine;
use firedrill_node::driver::{Net, v4};
use firedrill_protocols::contract::{Ipv4Addr, SocketAddrV4};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify, mpsc};
use turmoil::net::{TcpListener, TcpStream, UdpSocket};

/// Connections that wait to be accepted by a process that does not run: turmoil's own queue must never fill, it ends
/// the simulation.
const BACKLOG: usize = 1024;

/// A packet takes one tick.
const ONE_WAY: Duration = Duration::from_millis(1);

/// How long an accepted stream waits to learn from which of several machines on one turmoil host it was dialled.
const SOURCE_PATIENCE: Duration = Duration::from_millis(10);

/// What is known of ports beside turmoil's own books.
///
/// Which machine dialled from a port: machines without ports of their own share one turmoil host. And who listens where:
/// turmoil keeps the port of a dial that was refused for ever, so that a client that dials a dead process every few
/// milliseconds would soon have none left.
#[derive(Debug, Default)]
pub(super) struct Sources {
    by_port: RefCell<BTreeMap<SocketAddrV4, Ipv4Addr>>,
    added: Notify,
    listening: RefCell<BTreeSet<SocketAddrV4>>,
}

impl Sources {
    fn add(&self, dialled_from: SocketAddrV4, machine: Ipv4Addr) {
        self.by_port.borrow_mut().insert(dialled_from, machine);
        self.added.notify_waiters();
    }

    fn listens(&self, addr: SocketAddrV4) -> bool {
        self.listening.borrow().contains(&addr)
    }

    async fn of(&self, peer: SocketAddrV4) -> Ipv4Addr {
        loop {
            let added = self.added.notified();
            if let Some(machine) = self.by_port.borrow().get(&peer) {
                return *machine;
            }
            added.await;
        }
    }
}

/// Sockets of one turmoil host. The host accepts for its processes, as an operating system does, so that a process
/// that is stopped does not keep its peers from connecting.
#[derive(Clone)]
pub(super) struct TurmoilNet {
    pub(super) machine: Rc<Machine>,
    pub(super) sources: Rc<Sources>,
}

type Accepted = (TcpStream, SocketAddrV4);

impl Net for TurmoilNet {
    type Stream = TcpStream;
    type Listener = Mutex<mpsc::Receiver<Accepted>>;
    type Datagrams = UdpSocket;

    async fn bind(&self, addr: SocketAddrV4) -> io::Result<Self::Listener> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, addr.port())).await?;
        let (sender, receiver) = mpsc::channel(BACKLOG);
        self.sources.listening.borrow_mut().insert(addr);
        let sources = self.sources.clone();
        self.machine.spawn(async move {
            accept_all(listener, sender, &sources).await;
            sources.listening.borrow_mut().remove(&addr);
        });
        Ok(Mutex::new(receiver))
    }

    async fn accept(&self, listener: &Self::Listener) -> io::Result<Accepted> {
        let accepted = listener.lock().await.recv().await;
        accepted.ok_or_else(|| io::Error::other("the host stopped listening"))
    }

    async fn connect(&self, from: Option<Ipv4Addr>, to: SocketAddrV4) -> io::Result<Self::Stream> {
        if !self.sources.listens(to) {
            // Who begins to listen before the packet is there accepts it.
            tokio::time::sleep(ONE_WAY).await;
        }
        if !self.sources.listens(to) {
            tokio::time::sleep(ONE_WAY).await;
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let stream = TcpStream::connect(to).await?;
        if let Some(from) = from {
            self.sources.add(v4(stream.local_addr()?)?, from);
        }
        Ok(stream)
    }

    async fn bind_datagrams(&self, addr: SocketAddrV4) -> io::Result<Self::Datagrams> {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, addr.port())).await
    }

    async fn send_datagram(
        &self,
        socket: &Self::Datagrams,
        bytes: &[u8],
        to: SocketAddrV4,
    ) -> io::Result<()> {
        socket.send_to(bytes, to).await.map(|_| ())
    }

    async fn receive_datagram(
        &self,
        socket: &Self::Datagrams,
        buffer: &mut [u8],
    ) -> io::Result<(usize, SocketAddrV4)> {
        let (length, from) = socket.recv_from(buffer).await?;
        Ok((length, v4(from)?))
    }

    async fn resolve(&self, _name: &str, _port: u16) -> Option<SocketAddrV4> {
        None
    }
}

/// Accept until the process is gone.
async fn accept_all(listener: TcpListener, accepted: mpsc::Sender<Accepted>, sources: &Sources) {
    loop {
        let stream = tokio::select! {
            biased;
            () = accepted.closed() => return,
            stream = listener.accept() => stream,
        };
        let Ok((stream, peer)) = stream else { continue };
        let Ok(peer) = v4(peer) else { continue };
        let machine = tokio::time::timeout(SOURCE_PATIENCE, sources.of(peer)).await;
        let from = SocketAddrV4::new(machine.unwrap_or(*peer.ip()), peer.port());
        // With a full backlog the peer is turned away, as by a real host.
        let _ = accepted.try_send((stream, from));
    }
}
