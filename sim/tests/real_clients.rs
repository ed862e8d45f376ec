//! redis-rs, a real client library, against our data nodes and sentinels on loopback sockets.

mod live;

use live::{GROUP, Live, eventually, free_addresses, nap, wait_until_complete};
use redis::Commands;
use redis::sentinel::{SentinelClient, SentinelServerType};
use std::time::Duration;

/// One primary, two replicas, three sentinels that know each other.
fn deployment() -> (Vec<Live>, Vec<Live>) {
    let addresses = free_addresses(6);
    let primary = addresses[0];
    let data: Vec<Live> =
        addresses[..3].iter().map(|&addr| Live::data(addr, (addr != primary).then_some(primary))).collect();
    let sentinels: Vec<Live> =
        addresses[3..].iter().map(|&addr| Live::sentinel(addr, primary, None)).collect();
    sentinels.iter().for_each(|sentinel| wait_until_complete(sentinel.addr));
    (data, sentinels)
}

fn client(sentinels: &[Live], server: SentinelServerType) -> SentinelClient {
    let nodes = sentinels.iter().map(|sentinel| format!("redis://{}", sentinel.addr)).collect();
    SentinelClient::build(nodes, GROUP.to_owned(), None, server).expect("valid addresses")
}

#[test]
fn redis_rs_writes_through_a_failover_and_loses_nothing_that_was_acknowledged() {
    let (mut data, sentinels) = deployment();
    let old_primary = data[0].addr;
    let mut events = subscribe(sentinels[0].addr);
    let mut client = client(&sentinels, SentinelServerType::Master);
    let mut connection = None;
    let mut acknowledged = Vec::new();
    let mut attempt = |client: &mut SentinelClient, number: u32| {
        if connection.is_none() {
            connection = client.get_connection().ok();
        }
        let Some(open) = &mut connection else { return false };
        let written: redis::RedisResult<()> = open.set(format!("k{number}"), number);
        if written.is_err() {
            connection = None;
        }
        written.is_ok()
    };
    for number in 0..100 {
        eventually("write before the failure", || attempt(&mut client, number).then_some(()));
        acknowledged.push(number);
    }
    // The replicas hold what was acknowledged before we kill: replication is asynchronous, and only what is in their
    // hands is promised.
    nap(Duration::from_millis(300));
    data[0].kill();
    for number in 100..200 {
        eventually("write after the failure", || attempt(&mut client, number).then_some(()));
        acknowledged.push(number);
    }
    let mut reader = client.get_connection().expect("there is a primary");
    for number in acknowledged {
        let value: Option<u32> = reader.get(format!("k{number}")).expect("the primary answers");
        assert_eq!(value, Some(number));
    }
    let switched = events.recv();
    let words: Vec<&str> = switched.split(' ').collect();
    assert_eq!(words[..3], [GROUP, &old_primary.ip().to_string(), &old_primary.port().to_string()]);
    assert_ne!(words[4], old_primary.port().to_string());
}

/// Listens to `+switch-master` on a sentinel.
struct Events(std::sync::mpsc::Receiver<String>);

impl Events {
    fn recv(&mut self) -> String {
        self.0.recv_timeout(Duration::from_secs(60)).expect("the sentinels tell of the new primary")
    }
}

fn subscribe(sentinel: std::net::SocketAddrV4) -> Events {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let client = redis::Client::open(format!("redis://{sentinel}")).expect("a valid address");
        let mut connection = client.get_connection().expect("the sentinel is up");
        let mut events = connection.as_pubsub();
        events.subscribe("+switch-master").expect("the sentinel lets us");
        if let Ok(message) = events.get_message() {
            let _ = sender.send(message.get_payload().expect("text"));
        }
    });
    Events(receiver)
}

#[test]
fn a_replica_refuses_writes_and_serves_reads_transactions_are_whole_and_version_three_is_spoken() {
    let (_data, sentinels) = deployment();
    let mut primary = client(&sentinels, SentinelServerType::Master).get_connection().expect("a primary");
    let (pushed, length): (u32, u32) = redis::pipe()
        .atomic()
        .cmd("RPUSH")
        .arg("k1")
        .arg(7)
        .cmd("LLEN")
        .arg("k1")
        .query(&mut primary)
        .expect("a transaction");
    assert_eq!((pushed, length), (1, 1));
    let acknowledged: u32 = redis::cmd("WAIT").arg(2).arg(5000).query(&mut primary).expect("WAIT");
    assert_eq!(acknowledged, 2);
    let mut replica = client(&sentinels, SentinelServerType::Replica).get_connection().expect("a replica");
    let list: Vec<u32> = replica.lrange("k1", 0, -1).expect("replicas serve reads");
    assert_eq!(list, [7]);
    let refused: redis::RedisResult<()> = replica.set("k2", 1);
    let error = refused.expect_err("replicas refuse writes");
    assert_eq!(error.code(), Some("READONLY"));

    let resp3 = format!("redis://{}/?protocol=resp3", sentinels[0].addr);
    let mut sentinel =
        redis::Client::open(resp3).and_then(|client| client.get_connection()).expect("HELLO 3 is understood");
    let entries: Vec<redis::Value> =
        redis::cmd("SENTINEL").arg("MASTERS").query(&mut sentinel).expect("SENTINEL MASTERS");
    assert!(matches!(entries[..], [redis::Value::Map(_)]), "{entries:?}");
    assert_eq!(live::field(&entries[0], "flags").as_deref(), Some("master"));
}
