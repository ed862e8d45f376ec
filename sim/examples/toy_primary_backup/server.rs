//! A toy: lists kept by a primary and its backup, spoken to in lines of text. Ordinary tokio code; the network is a
//! parameter, so that a drill can run it on simulated streams.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddrV4;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_millis(300);
const WATCH_EVERY: Duration = Duration::from_millis(200);
const SILENCES_TO_TAKE_OVER: u32 = 4;
const BATCH_EVERY: Duration = Duration::from_millis(50);

/// Streams, real or simulated.
pub trait Network: Clone + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;
    type Listener: 'static;
    async fn bind(&self, at: SocketAddrV4) -> io::Result<Self::Listener>;
    async fn accept(&self, listener: &Self::Listener) -> io::Result<Self::Stream>;
    async fn connect(&self, to: SocketAddrV4) -> io::Result<Self::Stream>;
}

/// One question, one line of answer.
pub async fn ask<N: Network>(network: &N, to: SocketAddrV4, line: String) -> io::Result<String> {
    let exchange = async {
        let mut stream = BufReader::new(network.connect(to).await?);
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await?;
        if answer.is_empty() {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(answer.trim().to_owned())
        }
    };
    timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// One of the two servers.
pub struct Server<N> {
    pub network: N,
    pub me: SocketAddrV4,
    pub peer: SocketAddrV4,
    /// Primary if the peer is not.
    pub preferred: bool,
    /// THE BUG, if false: an append is acknowledged before the backup has it, and copied with the next batch.
    pub copy_before_ack: bool,
    /// Is told when this server becomes primary or backup.
    pub tell: Box<dyn Fn(bool)>,
    pub state: RefCell<State>,
    pub appending: tokio::sync::Mutex<()>,
}

/// What a server holds.
#[derive(Default)]
pub struct State {
    primary: bool,
    lists: BTreeMap<String, String>,
    uncopied: Vec<String>,
}

impl<N: Network> Server<N> {
    /// Serve for ever.
    pub async fn run(self: Rc<Self>) -> io::Result<()> {
        let listener = self.network.bind(self.me).await?;
        tokio::task::spawn_local(self.clone().lead_or_follow());
        loop {
            let stream = self.network.accept(&listener).await?;
            tokio::task::spawn_local(self.clone().serve(stream));
        }
    }

    async fn lead_or_follow(self: Rc<Self>) {
        let peer = ask(&self.network, self.peer, "role".to_owned()).await;
        let follows = peer.is_ok_and(|role| role == "primary") && self.fetch().await;
        if self.preferred && !follows {
            self.become_primary();
        } else {
            (self.tell)(false);
            self.fetch().await;
            self.follow().await;
        }
        loop {
            sleep(BATCH_EVERY).await;
            let batch = std::mem::take(&mut self.state.borrow_mut().uncopied);
            for key in batch {
                let list = self.list(&key);
                let _ = ask(&self.network, self.peer, format!("copy {key} {list}")).await;
            }
        }
    }

    /// Copy what the primary holds; whether there was one.
    async fn fetch(&self) -> bool {
        let Ok(all) = ask(&self.network, self.peer, "dump".to_owned()).await else { return false };
        for (key, list) in all.split(';').filter_map(|entry| entry.split_once(' ')) {
            self.keep(key, list);
        }
        true
    }

    /// Watch the primary until it has been silent for too long.
    async fn follow(&self) {
        let mut silences = 0;
        while silences < SILENCES_TO_TAKE_OVER {
            sleep(WATCH_EVERY).await;
            let answer = ask(&self.network, self.peer, "role".to_owned()).await;
            silences = if answer.is_ok() { 0 } else { silences + 1 };
        }
        self.become_primary();
    }

    fn become_primary(&self) {
        self.state.borrow_mut().primary = true;
        (self.tell)(true);
    }

    async fn serve(self: Rc<Self>, stream: N::Stream) {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
            let answer = self.answer(line.trim()).await;
            if stream.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
                return;
            }
            line.clear();
        }
    }

    async fn answer(&self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let primary = self.state.borrow().primary;
        match words[..] {
            ["role"] => if primary { "primary" } else { "backup" }.to_owned(),
            ["append", key, value] if primary => self.append(key, value).await,
            ["read", key] if primary => format!("list {}", self.list(key)),
            ["peek", key] => format!("list {}", self.list(key)),
            ["copy", key, list] => {
                self.keep(key, list);
                "ok".to_owned()
            }
            ["dump"] => {
                let state = self.state.borrow();
                state.lists.iter().map(|(key, list)| format!("{key} {list};")).collect()
            }
            _ => "no".to_owned(),
        }
    }

    async fn append(&self, key: &str, value: &str) -> String {
        let _one_at_a_time = self.appending.lock().await;
        let list = format!("{}{value},", self.list(key));
        if self.copy_before_ack {
            // A dead backup refuses, and the primary goes on alone.
            let _ = ask(&self.network, self.peer, format!("copy {key} {list}")).await;
        } else {
            self.state.borrow_mut().uncopied.push(key.to_owned());
        }
        self.keep(key, &list);
        "ok".to_owned()
    }

    fn list(&self, key: &str) -> String {
        self.state.borrow().lists.get(key).cloned().unwrap_or_default()
    }

    /// Lists only grow: the longer one is the newer one.
    fn keep(&self, key: &str, list: &str) {
        let mut state = self.state.borrow_mut();
        let kept = state.lists.entry(key.to_owned()).or_default();
        if list.len() > kept.len() {
            *kept = list.to_owned();
        }
    }
}
