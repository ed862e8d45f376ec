//! The toy on real sockets: `cargo run --example toy_primary_backup -- 127.0.0.1:7001 127.0.0.1:7002 preferred`, and the
//! other one with the addresses swapped. Its drill is `tests/own_code.rs`.

mod server;

use server::{Network, Server};
use std::io;
use std::net::SocketAddrV4;
use std::rc::Rc;
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone)]
struct Tcp;

impl Network for Tcp {
    type Stream = TcpStream;
    type Listener = TcpListener;

    async fn bind(&self, at: SocketAddrV4) -> io::Result<TcpListener> {
        TcpListener::bind(at).await
    }

    async fn accept(&self, listener: &TcpListener) -> io::Result<TcpStream> {
        Ok(listener.accept().await?.0)
    }

    async fn connect(&self, to: SocketAddrV4) -> io::Result<TcpStream> {
        TcpStream::connect(to).await
    }
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let address = |at: usize| arguments.get(at).and_then(|text| text.parse::<SocketAddrV4>().ok());
    let (Some(me), Some(peer)) = (address(0), address(1)) else {
        eprintln!("usage: toy_primary_backup ME:PORT PEER:PORT [preferred]");
        std::process::exit(2);
    };
    let server = Server {
        network: Tcp,
        me,
        peer,
        preferred: arguments.get(2).is_some_and(|word| word == "preferred"),
        copy_before_ack: true,
        tell: Box::new(|primary| println!("{}", if primary { "primary" } else { "backup" })),
        state: Default::default(),
        appending: Default::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, Rc::new(server).run())
}
