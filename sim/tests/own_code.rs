//! A user's own server, drilled: the toy of `examples/toy_primary_backup`, right and with its bug.

#[path = "../examples/toy_primary_backup/server.rs"]
mod server;

use firedrill::own::{Client, Drill, Env, Failure, Op, Outcome, Role, Value, net};
use server::{Network, Server, ask};
use std::io;
use std::net::SocketAddrV4;
use std::rc::Rc;

/// The simulated network.
#[derive(Clone)]
struct Simulated;

impl Network for Simulated {
    type Stream = net::TcpStream;
    type Listener = net::TcpListener;

    async fn bind(&self, at: SocketAddrV4) -> io::Result<net::TcpListener> {
        net::TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, at.port())).await
    }

    async fn accept(&self, listener: &net::TcpListener) -> io::Result<net::TcpStream> {
        Ok(listener.accept().await?.0)
    }

    async fn connect(&self, to: SocketAddrV4) -> io::Result<net::TcpStream> {
        net::TcpStream::connect(to).await
    }
}

fn toy(copy_before_ack: bool) -> impl Fn(Env) -> std::pin::Pin<Box<dyn Future<Output = io::Result<()>>>> {
    move |env| {
        let others = env.servers().iter().map(|(_, address)| *address);
        let server = Server {
            network: Simulated,
            me: env.address(),
            peer: others.clone().find(|address| *address != env.address()).expect("there are two"),
            preferred: env.name() == "one",
            copy_before_ack,
            tell: Box::new({
                let env = env.clone();
                move |primary| {
                    env.announce_role(if primary { Role::Primary } else { Role::Replica });
                    env.announce_writable(primary);
                }
            }),
            state: Default::default(),
            appending: Default::default(),
        };
        Box::pin(Rc::new(server).run())
    }
}

/// Asks the server that answered last, then the other.
struct Lists {
    env: Env,
    at: usize,
}

impl Client for Lists {
    async fn call(&mut self, op: Op) -> Outcome {
        let line = match &op {
            Op::Append { key, value, .. } => format!("append {} {value}", key.0),
            Op::Read { key } => format!("read {}", key.0),
            Op::ReadAt { node, key } => {
                return outcome(ask(&Simulated, *node, format!("peek {}", key.0)).await);
            }
            _ => return Outcome::Fail(Failure::Rejected),
        };
        let servers = self.env.servers().to_vec();
        let mut last = Outcome::Fail(Failure::NoRoute);
        for _ in &servers {
            last = outcome(ask(&Simulated, servers[self.at].1, line.clone()).await);
            if !matches!(last, Outcome::Fail(_) | Outcome::Unknown(_)) {
                return last;
            }
            self.at = (self.at + 1) % servers.len();
            // Only what certainly had no effect may be asked again elsewhere.
            if matches!(last, Outcome::Unknown(_)) {
                return last;
            }
        }
        last
    }
}

fn outcome(answer: io::Result<String>) -> Outcome {
    match answer.as_deref() {
        Ok("ok") => Outcome::Done,
        Ok("no") => Outcome::Fail(Failure::NotPrimary),
        Ok(text) => {
            let list =
                text.trim_start_matches("list").split([',', ' ']).filter_map(|v| v.parse::<Value>().ok());
            Outcome::List(list.collect())
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Outcome::Fail(Failure::Unreachable),
        Err(_) => Outcome::Unknown(Failure::Disconnected),
    }
}

fn drill(copy_before_ack: bool) -> Drill {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/own_code/crash.json");
    Drill::file(file, toy(copy_before_ack), |env| Lists { env, at: 0 })
}

#[test]
fn the_toy_survives_the_crash_of_its_primary() {
    drill(true).hold("1..5");
}

#[test]
fn acknowledging_before_the_backup_has_it_is_found_and_can_be_replayed() {
    let failed = std::panic::catch_unwind(|| drill(false).hold("1..5")).expect_err("the bug is found");
    let message = failed.downcast_ref::<String>().expect("a text");
    assert!(message.contains("rpo.writes_max == 0"), "{message}");
    assert!(message.contains("FIREDRILL_SEED="), "{message}");
    assert!(message.contains("killed"), "the story is told: {message}");
}

#[test]
fn a_panic_of_a_spawned_task_is_not_swallowed() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/own_code/crash.json");
    let panicking = |_: Env| async {
        tokio::task::spawn_local(async { panic!("a bug in a task") });
        std::future::pending::<io::Result<()>>().await
    };
    let drill = Drill::file(file, panicking, |env| Lists { env, at: 0 });
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drill.run("1")));
    let message = failed.expect_err("it is noticed").downcast_ref::<String>().cloned();
    assert!(message.is_some_and(|text| text.contains("own code panicked")));
}

/// The scenario of the crash with another fault.
fn with_fault(fault: &str) -> String {
    let text = include_str!("own_code/crash.json");
    let crash = text.lines().find(|line| line.contains("\"faults\"")).expect("it has faults");
    text.replace(crash, &format!("  \"faults\": [{fault}],"))
}

/// That scenario, run with one seed.
fn under(fault: &str) -> firedrill_reports::result::RunLine {
    let text = with_fault(fault);
    let drill = Drill::text(&text, "crash.json", toy(true), |env| Lists { env, at: 0 });
    drill.run("1").scenarios[0].lines[0].clone()
}

#[test]
fn a_cut_holds_the_streams_between_two_servers_until_it_heals() {
    let line = under(r#"{"cut": {"target": "one", "from": "two", "at": "5s", "for": "5s"}}"#);
    assert!(!line.inert, "messages waited");
    // The backup hears nothing of its primary and takes over; the toy has no quorum, so both acknowledge.
    assert!(line.measurement.split_brain.grade >= 2, "{:?}", line.measurement.split_brain);
}

#[test]
fn a_paused_primary_wakes_as_a_second_one() {
    let line = under(r#"{"pause": {"target": "primary", "at": "5s", "for": "5s"}}"#);
    // The backup takes over after two seconds. The old primary knows nothing of it when it wakes, and what was
    // acknowledged meanwhile does not survive: such acknowledgements end no outage.
    let outage = line.measurement.rto.first.expect("the pause was noticed");
    assert!(outage.ms > 4_500.0, "{outage:?}");
    assert!(line.measurement.split_brain.grade >= 2, "{:?}", line.measurement.split_brain);
}

/// When each server heard a beat of the other, in milliseconds since the start.
type Beats = Rc<std::cell::RefCell<std::collections::BTreeMap<String, Vec<u128>>>>;

/// Two servers that say a word to each other every 100 ms, on one connection that `two` dials.
async fn beat(env: Env, beats: Beats) -> io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let began = tokio::time::Instant::now();
    let listener = Simulated.bind(env.address()).await?;
    let (mut hear, mut say) = match env.name() {
        "one" => Simulated.accept(&listener).await?.into_split(),
        _ => Simulated.connect(env.servers()[0].1).await?.into_split(),
    };
    tokio::task::spawn_local(async move {
        while say.write_all(b".").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    });
    while hear.read_u8().await.is_ok() {
        beats.borrow_mut().entry(env.name().to_owned()).or_default().push(began.elapsed().as_millis());
    }
    Ok(())
}

#[test]
fn a_one_way_cut_stops_one_way_only_and_what_waited_arrives() {
    let text = with_fault(
        r#"{"cut": {"target": "one", "direction": "outbound", "from": "two", "at": "5s", "for": "5s"}}"#,
    );
    let beats = Beats::default();
    let heard = beats.clone();
    let drill = Drill::text(&text, "crash.json", move |env| beat(env, heard.clone()), |_| Nobody);
    assert!(!drill.run("1").scenarios[0].lines[0].inert, "words waited");
    let heard = |name: &str, span: std::ops::Range<u128>| {
        beats.borrow()[name].iter().filter(|at| span.contains(at)).count()
    };
    assert!(heard("one", 5_100..9_900) > 45, "the other way is open");
    assert_eq!(heard("two", 5_100..9_900), 0, "nothing passes");
    assert!(heard("two", 9_900..10_200) > 45, "what waited arrives after the heal");
}

/// A client that can do nothing.
struct Nobody;

impl Client for Nobody {
    async fn call(&mut self, _: Op) -> Outcome {
        Outcome::Fail(Failure::Rejected)
    }
}

/// Servers that do nothing, so that nothing can come late.
fn idle(fault: &str) -> firedrill_reports::result::RunLine {
    let text = with_fault(fault);
    let drill = Drill::text(&text, "crash.json", |_| std::future::pending(), |_| Nobody);
    drill.run("1").scenarios[0].lines[0].clone()
}

#[test]
fn a_pause_in_which_nothing_was_late_had_no_effect() {
    assert!(idle(r#"{"pause": {"target": "one", "at": "5s", "for": "5s"}}"#).inert);
}

#[test]
fn a_fault_that_own_code_cannot_feel_makes_a_run_inert_and_the_drill_inconclusive() {
    for fault in [
        r#"{"disk": {"target": "primary", "at": "5s", "harm": "stuck"}}"#,
        r#"{"clock": {"target": "primary", "at": "5s", "for": "5s", "drift_ppm": 100000}}"#,
    ] {
        assert!(under(fault).inert, "{fault}");
        let drill = Drill::text(&with_fault(fault), "crash.json", toy(true), |env| Lists { env, at: 0 });
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drill.hold("1")));
        let message = failed.expect_err("no evidence").downcast_ref::<String>().cloned().expect("a text");
        assert!(message.contains("INCONCLUSIVE") && message.contains("exit 6"), "{message}");
    }
}

#[test]
fn a_seed_is_a_run() {
    let hash = |drill: Drill| drill.run("7").scenarios[0].lines[0].trace_hash.clone();
    assert_eq!(hash(drill(true)), hash(drill(true)));
    assert_ne!(hash(drill(true)), hash(drill(false)));
}

#[test]
fn a_shipped_scenario_can_be_a_test_of_any_crate() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/canary/early-ack.json");
    let failed = std::panic::catch_unwind(|| firedrill::testing::hold(file, "1..3")).expect_err("a canary");
    let message = failed.downcast_ref::<String>().expect("a text");
    assert!(message.contains("firedrill replay canary/early-ack --seed"), "{message}");
    firedrill::testing::hold(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/sentinel/primary-crash.json"),
        "1",
    );
}
