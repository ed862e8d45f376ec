//! TLS 1.3 with certificates on both sides, for every stream of a node.
//!
//! A node has a folder with two files: `identity.pem`, its certificates (its own first) and its key, and `trust.pem`,
//! the certificates of the authorities it believes. Both are read anew before a handshake when they have changed, so
//! certificates rotate while connections live; open connections keep what they agreed on. A file that cannot be used
//! leaves the last good ones in force and is counted.
//!
//! Who dials checks that the certificate names the address it dialled; who is dialled checks that it names the address
//! that the dial came from, as etcd does with its peers (etcd documentation, "Transport security model"). Validity is
//! judged by the node's own wall clock. Nothing is resumed: every connection proves itself anew (RFC 8446, section 4.6.1
//! lets a server send no tickets).
//!
//! Datagrams are not covered; there is no DTLS here.

use crate::driver::{Net, Opening, Side, TokioNet};
use firedrill_protocols::contract::{Ipv4Addr, SocketAddrV4};
use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::client::{Resumption, verify_server_name};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, IpAddr, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::time_provider::TimeProvider;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{
    self, AlertDescription, CertificateError, ClientConfig, PeerIncompatible, RootCertStore, ServerConfig,
    crypto::ring,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// File of a node's certificates and key.
pub const IDENTITY: &str = "identity.pem";
/// File of the authorities a node believes.
pub const TRUST: &str = "trust.pem";

/// A node's certificates, and whom it believes. Clones are the same.
#[derive(Clone, Debug)]
pub struct Tls(Rc<State>);

#[derive(Debug)]
struct State {
    folder: PathBuf,
    clock: Arc<Wall>,
    current: RefCell<Current>,
    handshakes: Cell<u64>,
    unusable: Cell<u64>,
}

/// What the files said when they were last good.
struct Current {
    stamp: [Stamp; 2],
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").field("stamp", &self.stamp).finish_non_exhaustive()
    }
}

/// What tells two versions of a file apart: inode, length, and time of its last change in seconds and nanoseconds.
type Stamp = (u64, u64, i64, i64);

/// The node's wall clock, as it stood when the last handshake began: rustls asks from any thread.
#[derive(Debug, Default)]
struct Wall(AtomicI64);

impl TimeProvider for Wall {
    fn current_time(&self) -> Option<UnixTime> {
        let micros = u64::try_from(self.0.load(Ordering::Relaxed)).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_micros(micros)))
    }
}

/// The files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A file cannot be read, or is no PEM.
    #[error("{0}: {1}")]
    File(PathBuf, String),
    /// What they hold does not fit together.
    #[error("the certificates cannot be used: {0}")]
    Content(String),
}

impl From<Unusable> for io::Error {
    fn from(unusable: Unusable) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, unusable)
    }
}

/// Why a peer is not spoken to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its certificate is over, by our clock.
    #[error("its certificate has expired")]
    Expired,
    /// Its certificate has not begun, by our clock.
    #[error("its certificate is not valid yet")]
    NotYetValid,
    /// Nobody we believe has signed its certificate.
    #[error("its certificate is from an authority that is not trusted here")]
    UnknownAuthority,
    /// Its certificate is somebody else's.
    #[error("its certificate is for another name")]
    WrongName,
    /// It shows none.
    #[error("it shows no certificate")]
    NoCertificate,
    /// What it sends is no TLS.
    #[error("it does not speak TLS")]
    NotTls,
    /// It knows only older versions.
    #[error("it does not speak TLS 1.3")]
    OldVersion,
    /// It does not want us, and says why.
    #[error("it refuses us: {0}")]
    ByPeer(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Refusal {
    /// What an error of a stream says about trust; `None` if it is about something else.
    pub fn of(error: &io::Error) -> Option<Refusal> {
        let inner = error.get_ref()?;
        if let Some(refusal) = inner.downcast_ref::<Refusal>() {
            return Some(refusal.clone());
        }
        inner.downcast_ref::<rustls::Error>().map(Refusal::named)
    }

    fn named(error: &rustls::Error) -> Refusal {
        match error {
            rustls::Error::InvalidCertificate(why) => match why {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Refusal::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Refusal::NotYetValid
                }
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Refusal::UnknownAuthority,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Refusal::WrongName
                }
                other => Refusal::Other(other.to_string()),
            },
            rustls::Error::NoCertificatesPresented => Refusal::NoCertificate,
            rustls::Error::InvalidMessage(_) => Refusal::NotTls,
            rustls::Error::PeerIncompatible(
                PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls13RequiredForQuic
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Refusal::OldVersion,
            rustls::Error::AlertReceived(alert) => Refusal::ByPeer(said(*alert)),
            other => Refusal::Other(other.to_string()),
        }
    }
}

/// An alert in words.
fn said(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateExpired => "our certificate has expired".to_owned(),
        AlertDescription::UnknownCA => "our certificate's authority is unknown to it".to_owned(),
        AlertDescription::CertificateRequired => "it wants a certificate".to_owned(),
        AlertDescription::ProtocolVersion => "it speaks another version".to_owned(),
        other => format!("{other:?}"),
    }
}

impl Tls {
    /// The certificates in a folder.
    ///
    /// # Errors
    /// A file is missing or holds nothing usable.
    pub fn new(folder: &Path) -> Result<Tls, Unusable> {
        let clock = Arc::new(Wall::default());
        let current = RefCell::new(load(folder, &clock)?);
        let folder = folder.to_owned();
        Ok(Tls(Rc::new(State { folder, clock, current, handshakes: Cell::new(0), unusable: Cell::new(0) })))
    }

    /// Handshakes begun so far.
    pub fn handshakes(&self) -> u64 {
        self.0.handshakes.get()
    }

    /// How often changed files could not be used, so that the old ones stayed in force.
    pub fn unusable(&self) -> u64 {
        self.0.unusable.get()
    }

    /// Read the files again if they have changed.
    fn refresh(&self) {
        if stamps(&self.0.folder) == self.0.current.borrow().stamp {
            return;
        }
        match load(&self.0.folder, &self.0.clock) {
            Ok(current) => *self.0.current.borrow_mut() = current,
            Err(_) => self.0.unusable.set(self.0.unusable.get() + 1),
        }
    }

    /// Agree on keys with the peer of a fresh stream, and look at its certificate.
    ///
    /// # Errors
    /// The stream broke, or the peer is refused: [`Refusal::of`] says why.
    pub async fn secure(&self, stream: TcpStream, opening: Opening) -> io::Result<TlsStream<TcpStream>> {
        self.refresh();
        self.0.clock.0.store(opening.wall.0, Ordering::Relaxed);
        self.0.handshakes.set(self.0.handshakes.get() + 1);
        let name = ServerName::IpAddress(IpAddr::from(std::net::IpAddr::V4(*opening.peer.ip())));
        let (connector, acceptor) = {
            let current = self.0.current.borrow();
            (current.connector.clone(), current.acceptor.clone())
        };
        match opening.side {
            Side::Dialled => Ok(connector.connect(name, stream).await?.into()),
            Side::Accepted => {
                let stream = acceptor.accept(stream).await?;
                check_name(stream.get_ref().1.peer_certificates(), &name)?;
                Ok(stream.into())
            }
        }
    }
}

/// The dialler's certificate names the address that it dials from.
fn check_name(shown: Option<&[CertificateDer<'_>]>, name: &ServerName<'_>) -> io::Result<()> {
    let refused = |refusal| io::Error::new(io::ErrorKind::InvalidData, refusal);
    let own = shown.and_then(|shown| shown.first()).ok_or_else(|| refused(Refusal::NoCertificate))?;
    let parsed = ParsedCertificate::try_from(own).map_err(|error| refused(Refusal::named(&error)))?;
    verify_server_name(&parsed, name).map_err(|error| refused(Refusal::named(&error)))
}

fn stamps(folder: &Path) -> [Stamp; 2] {
    use std::os::unix::fs::MetadataExt;
    [IDENTITY, TRUST].map(|name| {
        std::fs::metadata(folder.join(name))
            .map_or((0, 0, 0, 0), |file| (file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
    })
}

fn load(folder: &Path, clock: &Arc<Wall>) -> Result<Current, Unusable> {
    // Taken first: what changes while we read is read again at the next handshake.
    let stamp = stamps(folder);
    let content = |error: rustls::Error| Unusable::Content(error.to_string());
    let (identity, trust) = (folder.join(IDENTITY), folder.join(TRUST));
    let chain = certificates(&identity)?;
    let key = PrivateKeyDer::from_pem_file(&identity)
        .map_err(|error| Unusable::File(identity.clone(), error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for authority in certificates(&trust)? {
        roots.add(authority).map_err(content)?;
    }
    let roots = Arc::new(roots);
    let provider = Arc::new(ring::default_provider());
    let asked = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| Unusable::Content(error.to_string()))?;
    let mut server = ServerConfig::builder_with_details(provider.clone(), clock.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(content)?
        .with_client_cert_verifier(asked)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(content)?;
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    let mut client = ClientConfig::builder_with_details(provider, clock.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(content)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(content)?;
    client.resumption = Resumption::disabled();
    Ok(Current { stamp, connector: Arc::new(client).into(), acceptor: Arc::new(server).into() })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let bad = |error: String| Unusable::File(path.to_owned(), error);
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))?.collect();
    match found {
        Ok(found) if found.is_empty() => Err(bad("it holds no certificate".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(bad(error.to_string())),
    }
}

/// Real sockets, with TLS on every stream if there are certificates.
#[derive(Clone, Debug, Default)]
pub struct TlsNet {
    /// The certificates; without them streams are plain.
    pub tls: Option<Tls>,
}

/// A stream, plain or not.
#[derive(Debug)]
pub enum Stream {
    /// Bytes as they are.
    Plain(TcpStream),
    /// Bytes that only the two ends can read.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Net for TlsNet {
    type Stream = Stream;
    type Listener = tokio::net::TcpListener;
    type Datagrams = tokio::net::UdpSocket;

    async fn bind(&self, addr: SocketAddrV4) -> io::Result<Self::Listener> {
        TokioNet.bind(addr).await
    }

    async fn accept(&self, listener: &Self::Listener) -> io::Result<(Stream, SocketAddrV4)> {
        let (stream, from) = TokioNet.accept(listener).await?;
        Ok((Stream::Plain(stream), from))
    }

    async fn connect(&self, from: Option<Ipv4Addr>, to: SocketAddrV4) -> io::Result<Stream> {
        TokioNet.connect(from, to).await.map(Stream::Plain)
    }

    fn round_trips(&self) -> u32 {
        // RFC 8446, section 2: keys are agreed on in one round trip, and the dialler may speak after it.
        u32::from(self.tls.is_some())
    }

    async fn secure(&self, stream: Stream, opening: Opening) -> io::Result<Stream> {
        match (&self.tls, stream) {
            (Some(tls), Stream::Plain(stream)) => {
                tls.secure(stream, opening).await.map(|stream| Stream::Tls(Box::new(stream)))
            }
            (_, stream) => Ok(stream),
        }
    }

    async fn bind_datagrams(&self, addr: SocketAddrV4) -> io::Result<Self::Datagrams> {
        TokioNet.bind_datagrams(addr).await
    }

    async fn send_datagram(
        &self,
        socket: &Self::Datagrams,
        bytes: &[u8],
        to: SocketAddrV4,
    ) -> io::Result<()> {
        TokioNet.send_datagram(socket, bytes, to).await
    }

    async fn receive_datagram(
        &self,
        socket: &Self::Datagrams,
        buffer: &mut [u8],
    ) -> io::Result<(usize, SocketAddrV4)> {
        TokioNet.receive_datagram(socket, buffer).await
    }

    async fn resolve(&self, name: &str, port: u16) -> Option<SocketAddrV4> {
        TokioNet.resolve(name, port).await
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
