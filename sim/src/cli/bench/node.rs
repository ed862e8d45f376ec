//! Resident memory of a data node on real sockets: under many writes to few keys, and with peers that read nothing.

use super::Failure;
use super::figure::{Bar, Table};
use crate::backends::tcp::Network;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const KEYS: u64 = 1_000;
const WRITES: u64 = 1_000_000;
/// Writes after which the node has everything it will ever need.
const WARM: u64 = 100_000;
/// Commands sent before their replies are read.
const BATCH: u64 = 1_000;
/// Size of a large value, and how often a stalled peer asks for it: far more than its outbox holds.
const LARGE: usize = 1 << 20;
const QUESTIONS: usize = 64;

/// The driver's bound for one peer is 8 MiB and one message on top; the allocator keeps as much again.
const OUTBOX_MIB: f64 = 24.0;

pub(super) fn measure<W: Write>(table: &mut Table<W>) -> Result<(), Failure> {
    table.heading("resident memory of a data node on real sockets")?;
    let node = Node::start()?;
    let mut client = node.dial()?;
    set_many(&mut client, 0..WARM)?;
    let warm = node.resident();
    table.figure(&format!("after {WARM} SETs on {KEYS} keys"), warm, "MiB", Bar::None)?;
    set_many(&mut client, WARM..WRITES)?;
    let grown = node.resident() - warm;
    table.figure(&format!("growth up to {WRITES} SETs"), grown, "MiB", Bar::AtMost(2.0))?;

    let before = node.resident();
    let mut replica = node.dial()?;
    replica.write_all(b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n")?;
    set_many(&mut client, 0..WRITES)?;
    let stalled = node.resident() - before;
    table.figure(
        "growth with a replica that reads nothing of them",
        stalled,
        "MiB",
        Bar::AtMost(OUTBOX_MIB),
    )?;

    set(&mut client, "large", LARGE)?;
    let before = node.resident();
    let mut stalled = node.dial()?;
    // The node may end this session while we write.
    let _ = (0..QUESTIONS).try_for_each(|_| stalled.write_all(b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n"));
    set_many(&mut client, 0..WARM)?;
    let grown = node.resident() - before;
    let what = format!("growth with a client that asked for {} MiB", (QUESTIONS * LARGE) >> 20);
    table.figure(&what, grown, "MiB", Bar::AtMost(OUTBOX_MIB))?;
    Ok(())
}

/// SETs of 16 bytes, in batches, with all replies read.
fn set_many(client: &mut TcpStream, numbers: std::ops::Range<u64>) -> io::Result<()> {
    let mut numbers = numbers.peekable();
    while numbers.peek().is_some() {
        let mut batch = Vec::new();
        let mut asked = 0;
        for number in numbers.by_ref().take(BATCH as usize) {
            let key = format!("k{:03}", number % KEYS);
            write!(batch, "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n$16\r\n{number:016}\r\n", key.len())?;
            asked += 1;
        }
        client.write_all(&batch)?;
        expect_ok(client, asked)?;
    }
    Ok(())
}

fn set(client: &mut TcpStream, key: &str, bytes: usize) -> io::Result<()> {
    let value = "x".repeat(bytes);
    let command = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${bytes}\r\n{value}\r\n", key.len());
    client.write_all(command.as_bytes())?;
    expect_ok(client, 1)
}

fn expect_ok(client: &mut TcpStream, replies: usize) -> io::Result<()> {
    let mut read = vec![0; replies * 5];
    client.read_exact(&mut read)?;
    if read.chunks(5).all(|reply| reply == b"+OK\r\n") {
        return Ok(());
    }
    Err(io::Error::other("the node did not answer every SET with OK"))
}

struct Node {
    child: Child,
    address: SocketAddrV4,
    _network: Network,
}

impl Node {
    fn start() -> io::Result<Node> {
        let network = Network::take()?;
        let [a, b] = network.bytes();
        let address = SocketAddrV4::new(Ipv4Addr::new(a, b, 0, 1), 6379);
        let data = std::env::temp_dir().join(format!("firedrill-bench-{}", std::process::id()));
        let child = Command::new(std::env::current_exe()?)
            .args(["node", "--role", "data", "--keep", "nothing", "--listen", &address.to_string()])
            .arg("--data")
            .arg(data)
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Node { child, address, _network: network })
    }

    /// A connection, once the node listens.
    #[expect(clippy::disallowed_methods, reason = "a real process takes real time to listen")]
    fn dial(&self) -> io::Result<TcpStream> {
        for _ in 0..200 {
            if let Ok(stream) = TcpStream::connect(self.address) {
                return Ok(stream);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        TcpStream::connect(self.address)
    }

    fn resident(&self) -> f64 {
        super::memory::field(self.child.id(), "VmRSS:").unwrap_or(f64::NAN)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
