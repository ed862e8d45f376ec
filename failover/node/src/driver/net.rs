//! The network below the driver, as small as it can be: production and simulated sockets differ only here.

use super::Side;
use firedrill_protocols::contract::WallTime;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use tokio::io::{AsyncRead, AsyncWrite};

/// Where byte streams come from.
pub trait Net: Clone + 'static {
    /// A connected byte stream.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;
    /// A bound port.
    type Listener: 'static;
    /// A bound datagram port.
    type Datagrams: 'static;

    /// Listen on an address.
    fn bind(&self, addr: SocketAddrV4) -> impl Future<Output = io::Result<Self::Listener>>;

    /// The next stream that a peer dialled, with the peer's address.
    fn accept(
        &self,
        listener: &Self::Listener,
    ) -> impl Future<Output = io::Result<(Self::Stream, SocketAddrV4)>>;

    /// Dial `to`. `from` is the host's own address where it has several: peers tell links apart by it.
    fn connect(
        &self,
        from: Option<Ipv4Addr>,
        to: SocketAddrV4,
    ) -> impl Future<Output = io::Result<Self::Stream>>;

    /// Round trips that [`Net::secure`] takes.
    fn round_trips(&self) -> u32 {
        0
    }

    /// Make a fresh stream safe before anybody speaks on it; plain networks give it back as it is.
    fn secure(
        &self,
        stream: Self::Stream,
        opening: Opening,
    ) -> impl Future<Output = io::Result<Self::Stream>> {
        let _ = opening;
        std::future::ready(Ok(stream))
    }

    /// Bind a datagram port.
    fn bind_datagrams(&self, addr: SocketAddrV4) -> impl Future<Output = io::Result<Self::Datagrams>>;

    /// Send one datagram; what happens to it then nobody tells.
    fn send_datagram(
        &self,
        socket: &Self::Datagrams,
        bytes: &[u8],
        to: SocketAddrV4,
    ) -> impl Future<Output = io::Result<()>>;

    /// The next datagram: its length in `buffer` and its sender.
    fn receive_datagram(
        &self,
        socket: &Self::Datagrams,
        buffer: &mut [u8],
    ) -> impl Future<Output = io::Result<(usize, SocketAddrV4)>>;

    /// The address of a host name; `None` if nobody knows it.
    fn resolve(&self, name: &str, port: u16) -> impl Future<Output = Option<SocketAddrV4>>;
}

/// What is known of a stream that has just been connected.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Which end we are.
    pub side: Side,
    /// The address we dialled, or that the dial came from.
    pub peer: SocketAddrV4,
    /// Our wall clock.
    pub wall: WallTime,
}

/// Real sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioNet;

/// The IPv4 form of an address; IPv6 peers do not exist for the protocols.
///
/// # Errors
/// The address is IPv6.
pub fn v4(addr: SocketAddr) -> io::Result<SocketAddrV4> {
    match addr {
        SocketAddr::V4(addr) => Ok(addr),
        SocketAddr::V6(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "only IPv4 is spoken here")),
    }
}

impl Net for TokioNet {
    type Stream = tokio::net::TcpStream;
    type Listener = tokio::net::TcpListener;
    type Datagrams = tokio::net::UdpSocket;

    async fn bind(&self, addr: SocketAddrV4) -> io::Result<Self::Listener> {
        let socket = tokio::net::TcpSocket::new_v4()?;
        // A restarted process must get its port back while old connections are in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(addr.into())?;
        socket.listen(1024)
    }

    async fn accept(&self, listener: &Self::Listener) -> io::Result<(Self::Stream, SocketAddrV4)> {
        let (stream, from) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream, v4(from)?))
    }

    async fn connect(&self, from: Option<Ipv4Addr>, to: SocketAddrV4) -> io::Result<Self::Stream> {
        let socket = tokio::net::TcpSocket::new_v4()?;
        if let Some(from) = from {
            socket.bind(SocketAddrV4::new(from, 0).into())?;
        }
        let stream = socket.connect(to.into()).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn bind_datagrams(&self, addr: SocketAddrV4) -> io::Result<Self::Datagrams> {
        tokio::net::UdpSocket::bind(addr).await
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

    async fn resolve(&self, name: &str, port: u16) -> Option<SocketAddrV4> {
        let found = tokio::net::lookup_host((name, port)).await.ok()?;
        found.filter_map(|addr| v4(addr).ok()).next()
    }
}
