//! TLS on real sockets: who is let in, who is not and why, and certificates that change while connections live.

use super::toys::pipeline::{Kind, Message, Pipeline, Server};
use super::{Frames, addr};
use bytes::BytesMut;
use firedrill_node::certificates::{Authority, Validity, put_identity, put_trust};
use firedrill_node::disk::Disk;
use firedrill_node::driver::*;
use firedrill_node::memory_disk::MemoryDisk;
use firedrill_node::tls::{IDENTITY, Refusal, Tls, TlsNet};
use firedrill_protocols::contract::*;
use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::LocalSet;
use tokio_rustls::rustls::pki_types::{IpAddr, ServerName, UnixTime};
use tokio_rustls::rustls::time_provider::TimeProvider;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_rustls::{TlsConnector, TlsStream};

/// What all wall clocks show, in microseconds: some day in 2027.
const NOW: WallTime = WallTime(1_800_000_000_000_000);
const DAY: Duration = Duration::from_secs(86_400);

/// The same for a bare TLS client.
#[derive(Debug)]
struct SameClock;

impl TimeProvider for SameClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_micros(NOW.0 as u64)))
    }
}

/// Two authorities, and a folder for each host.
struct Town {
    root: PathBuf,
    old: Authority,
    new: Authority,
}

impl Town {
    fn new(name: &str) -> Town {
        let root = std::env::temp_dir().join(format!("firedrill-tls-{name}-{}", std::process::id()));
        let authority = |name| Authority::new(name).expect("there is randomness");
        Town { root, old: authority("old"), new: authority("new") }
    }

    fn valid() -> Validity {
        Validity::starting(NOW, 90 * DAY)
    }

    fn expired() -> Validity {
        Validity { from: WallTime(NOW.0 - 2 * 86_400_000_000), to: WallTime(NOW.0 - 1_000_000) }
    }

    fn folder(&self, host: u8) -> PathBuf {
        self.root.join(host.to_string())
    }

    /// Equip a host: a certificate of `by` for the host `named`, and trust in `trust`.
    fn equip(&self, host: u8, by: &Authority, named: u8, valid: Validity, trust: &[&Authority]) -> Tls {
        let identity = by.identity(*addr(named).ip(), valid).expect("times are fine");
        put_identity(&self.folder(host), &identity).expect("the folder is ours");
        put_trust(&self.folder(host), trust).expect("the folder is ours");
        Tls::new(&self.folder(host)).expect("just made")
    }

    /// As it should be.
    fn good(&self, host: u8) -> Tls {
        self.equip(host, &self.old, host, Town::valid(), &[&self.old])
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// What a node said.
#[derive(Clone, Default)]
struct Said(Rc<RefCell<Vec<Observation>>>);

impl Reports<Pipeline> for Said {
    fn complete(&mut self, _: RequestId, _: Outcome, _: Option<SocketAddrV4>) {}
    fn observe(&mut self, _: Shard, fact: Observation) {
        self.0.borrow_mut().push(fact);
    }
}

impl Said {
    /// The last value of a gauge.
    fn count(&self, gauge: &str) -> u64 {
        let value = |fact: &Observation| match fact {
            Observation::Gauge { name, value } if *name == gauge => Some(*value),
            _ => None,
        };
        self.0.borrow().iter().rev().find_map(value).unwrap_or(0)
    }

    fn noted(&self, text: &str) -> bool {
        self.0.borrow().iter().any(|fact| matches!(fact, Observation::Note(note) if note.ends_with(text)))
    }

    /// Wait until it has said something of this peer's kind.
    async fn hear(&self, text: &str) {
        for _ in 0..20_000 {
            if self.noted(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("it never said {text:?}, but {:?}", self.0.borrow());
    }
}

/// A node with these certificates, whose wall clock shows this.
fn serve(at: SocketAddrV4, tls: Tls, wall: WallTime) -> Said {
    let said = Said::default();
    let setup = Setup {
        net: TlsNet { tls: Some(tls) },
        wire: Rc::new(Frames),
        disk: Disk::new(MemoryDisk::default()),
        clock: Clock::new(LocalTime(0), wall),
        gate: Gate::default(),
        random: stream(1, 1, 1, 1),
        source: None,
        ports: vec![(at, Kind::Client)],
        resolver: Box::new(|_| Resolved::Unknown),
        reports: Box::new(said.clone()),
        notes: true,
        limits: Limits::default(),
    };
    let (driver, _) = Driver::new(Box::new(Server::default()), setup);
    tokio::task::spawn_local(driver.run());
    said
}

/// A plain connection from a host's own address.
async fn connect(host: u8, to: SocketAddrV4) -> TcpStream {
    loop {
        let socket = TcpSocket::new_v4().expect("there are sockets");
        socket.bind(SocketAddrV4::new(*addr(host).ip(), 0).into()).expect("loopback has every address");
        if let Ok(stream) = socket.connect(to.into()).await {
            return stream;
        }
        tokio::task::yield_now().await;
    }
}

async fn dial(tls: &Tls, host: u8, to: SocketAddrV4) -> io::Result<TlsStream<TcpStream>> {
    let opening = Opening { side: Side::Dialled, peer: to, wall: NOW };
    tls.secure(connect(host, to).await, opening).await
}

/// Ask the node something; `None`: it hung up, without a word or with one that is no answer.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Option<Message>> {
    let mut codec: Framed<Message> = Framed::default();
    let mut out = BytesMut::new();
    Codec::<Pipeline>::encode(&mut codec, Message::Get("k".to_owned()), &mut out);
    stream.write_all(&out).await?;
    stream.flush().await?;
    let mut input = BytesMut::new();
    loop {
        match Codec::<Pipeline>::decode(&mut codec, &mut input, &mut out) {
            Ok(Some(answer)) => return Ok(Some(answer)),
            Ok(None) => {}
            Err(_) => return Ok(None),
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(None);
        }
    }
}

/// What a host gets from a node: an answer, or a reason.
async fn try_to_talk(tls: &Tls, host: u8, to: SocketAddrV4) -> Result<Message, Option<Refusal>> {
    let talk = async { ask(&mut dial(tls, host, to).await?).await };
    match talk.await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(None),
        Err(error) => Err(Refusal::of(&error)),
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(LocalSet::new().run_until(test));
}

#[test]
fn a_dialler_with_a_bad_certificate_is_refused_for_its_reason_and_counted() {
    run(async {
        let town = Town::new("dialler");
        let server = addr(20);
        let said = serve(server, town.good(20), NOW);
        assert_eq!(try_to_talk(&town.good(21), 21, server).await, Ok(Message::Value(None)));
        assert_eq!(said.count("tls_refused"), 0);

        let expired = town.equip(22, &town.old, 22, Town::expired(), &[&town.old]);
        let told = Refusal::ByPeer("our certificate has expired".to_owned());
        assert_eq!(try_to_talk(&expired, 22, server).await, Err(Some(told)));
        said.hear("127.0.78.22: its certificate has expired").await;

        // Half of a rotation: it has a certificate of the new authority, the server believes the old one only.
        let half = town.equip(23, &town.new, 23, Town::valid(), &[&town.old, &town.new]);
        let told = Refusal::ByPeer("our certificate's authority is unknown to it".to_owned());
        assert_eq!(try_to_talk(&half, 23, server).await, Err(Some(told)));
        said.hear("127.0.78.23: its certificate is from an authority that is not trusted here").await;

        let other = town.equip(24, &town.old, 99, Town::valid(), &[&town.old]);
        assert_eq!(try_to_talk(&other, 24, server).await, Err(None));
        said.hear("127.0.78.24: its certificate is for another name").await;
        assert_eq!(said.count("tls_refused"), 3);

        // And the good one still gets its answers.
        assert_eq!(try_to_talk(&town.good(21), 21, server).await, Ok(Message::Value(None)));
    });
}

#[test]
fn a_dialler_refuses_a_server_that_it_cannot_trust() {
    run(async {
        let town = Town::new("server");
        let client = town.good(30);
        let cases = [
            (31, town.equip(31, &town.old, 31, Town::expired(), &[&town.old]), Refusal::Expired),
            (32, town.equip(32, &town.new, 32, Town::valid(), &[&town.old]), Refusal::UnknownAuthority),
            (33, town.equip(33, &town.old, 99, Town::valid(), &[&town.old]), Refusal::WrongName),
        ];
        for (host, tls, why) in cases {
            let said = serve(addr(host), tls, NOW);
            assert_eq!(try_to_talk(&client, 30, addr(host)).await, Err(Some(why.clone())), "{host}");
            while said.count("tls_refused_by_peers") == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
}

#[test]
fn no_certificate_no_tls_and_an_old_version_are_refused() {
    run(async {
        let town = Town::new("strangers");
        let server = addr(40);
        let said = serve(server, town.good(40), NOW);

        let mut plain = connect(41, server).await;
        assert!(!matches!(ask(&mut plain).await, Ok(Some(_))), "a plaintext peer gets no answer");
        said.hear("127.0.78.41: it does not speak TLS").await;

        // A handshake of TLS 1.2: no list of versions among its extensions, one suite of those in CBC mode.
        let hello: Vec<u8> = [
            &[22, 3, 1, 0, 55, 1, 0, 0, 51, 3, 3][..],
            &[7; 32],
            &[0, 0, 2, 0xc0, 0x13, 1, 0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3],
        ]
        .concat();
        let mut old = connect(42, server).await;
        old.write_all(&hello).await.expect("it listens");
        let mut alert = Vec::new();
        old.read_to_end(&mut alert).await.expect("it answers and closes");
        assert_eq!(alert.first(), Some(&21), "an alert, {alert:?}");
        said.hear("127.0.78.42: it does not speak TLS 1.3").await;

        let mut roots = RootCertStore::empty();
        let pem = town.old.pem().as_bytes();
        use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
        roots.add(CertificateDer::from_pem_slice(pem).expect("just minted")).expect("an authority");
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let nameless = ClientConfig::builder_with_details(provider, Arc::new(SameClock))
            .with_safe_default_protocol_versions()
            .expect("there is one")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::IpAddress(IpAddr::from(std::net::IpAddr::V4(*server.ip())));
        let connected = TlsConnector::from(Arc::new(nameless)).connect(name, connect(43, server).await).await;
        let mut nameless = connected.expect("in TLS 1.3 the dialler is done before it is judged");
        assert!(
            !matches!(ask(&mut nameless).await, Ok(Some(_))),
            "without a certificate nobody gets an answer"
        );
        said.hear("127.0.78.43: it shows no certificate").await;
        assert_eq!(said.count("tls_refused"), 3);
    });
}

#[test]
fn validity_is_judged_by_the_clock_of_the_node() {
    run(async {
        let town = Town::new("clock");
        let ahead = WallTime(NOW.0 + 91 * 86_400_000_000);
        let said = serve(addr(50), town.good(50), ahead);
        assert!(try_to_talk(&town.good(51), 51, addr(50)).await.is_err());
        said.hear("127.0.78.51: its certificate has expired").await;
    });
}

#[test]
fn certificates_are_rotated_while_connections_live_and_rubbish_is_not_taken() {
    run(async {
        let town = Town::new("rotation");
        let server = town.good(60);
        let shown = |stream: &TlsStream<TcpStream>| {
            stream.get_ref().1.peer_certificates().expect("it showed one")[0].to_vec()
        };
        serve(addr(60), server.clone(), NOW);
        let client = town.good(61);
        let mut first = dial(&client, 61, addr(60)).await.expect("trusted");
        assert_eq!(ask(&mut first).await.expect("open"), Some(Message::Value(None)));

        // The three steps of a change of authorities, each while both run: believe both, show the new, forget the old.
        let both = [&town.old, &town.new];
        put_trust(&town.folder(60), &both).expect("ours");
        put_trust(&town.folder(61), &both).expect("ours");
        for host in [60, 61] {
            let fresh = town.new.identity(*addr(host).ip(), Town::valid()).expect("times are fine");
            put_identity(&town.folder(host), &fresh).expect("ours");
            let mut between = dial(&client, 61, addr(60)).await.expect("trusted at every step");
            assert_eq!(ask(&mut between).await.expect("open"), Some(Message::Value(None)));
        }
        put_trust(&town.folder(60), &[&town.new]).expect("ours");
        put_trust(&town.folder(61), &[&town.new]).expect("ours");
        let mut second = dial(&client, 61, addr(60)).await.expect("trusted");
        assert_eq!(ask(&mut second).await.expect("open"), Some(Message::Value(None)));
        assert_ne!(shown(&first), shown(&second), "the node shows its new certificate without a restart");
        assert_eq!(ask(&mut first).await.expect("still open"), Some(Message::Value(None)));

        // A certificate of the old authority has become worthless.
        let stale = town.equip(62, &town.old, 62, Town::valid(), &[&town.new]);
        assert!(try_to_talk(&stale, 62, addr(60)).await.is_err());

        std::fs::write(town.folder(60).join(IDENTITY), "rubbish").expect("ours");
        let mut third = dial(&client, 61, addr(60)).await.expect("trusted");
        assert_eq!(ask(&mut third).await.expect("open"), Some(Message::Value(None)));
        assert_eq!(shown(&third), shown(&second), "the last good certificate stays in force");
        assert!(server.unusable() > 0, "and the rubbish is counted");
    });
}
