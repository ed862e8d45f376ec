//! Every format in, and errors that say where and what.

use firedrill_checkers::import::{self, Format, ImportError, Model, Options};
use firedrill_checkers::linear::{self, Overall};

fn parse(text: &str) -> Result<import::ImportedHistory, ImportError> {
    import::parse("h", text.as_bytes().to_vec(), &Options::default())
}

fn verdict(text: &str) -> Overall {
    linear::check_imported(&parse(text).expect("a history"), &linear::Options::default()).verdict
}

fn error(text: &str) -> String {
    parse(text).expect_err("not a history").to_string()
}

#[test]
fn json_lines() {
    let text = r#"{"process":0,"type":"invoke","f":"write","key":"x","value":5}
{"process":0,"type":"ok","f":"write","key":"x","value":5}
{"process":1,"type":"invoke","f":"read","key":"x"}
{"process":1,"type":"ok","f":"read","value":4}
"#;
    let history = parse(text).expect("a history");
    assert_eq!(
        (history.format, history.model, history.operations),
        (Format::JsonLines, Some(Model::Register), 2)
    );
    assert_eq!(verdict(text), Overall::Violated);
    assert_eq!(verdict(&text.replace(":4", ":5")), Overall::Holds);
}

#[test]
fn edn_in_a_vector_with_a_nemesis_and_fields_in_any_order() {
    let text = "[{:index 0 :type :info, :process :nemesis, :f :start, :value nil}\n ; a comment\n\
                {:type :invoke, :f :write, :value 3, :process 0, :time 10, :error [:a {:b 1}]}\n\
                {:value 3, :process 0, :type :ok, :f :write}, {:process 1, :type :invoke, :f :read, :value nil}\n\
                {:process 1, :type :ok, :f :read, :value 4}]";
    let history = parse(text).expect("a history");
    assert_eq!((history.format, history.operations, history.events_ignored), (Format::Edn, 2, 1));
    assert_eq!(verdict(text), Overall::Violated);
    assert_eq!(verdict(&text.replace(":value 4", ":value 3")), Overall::Holds);
}

#[test]
fn independent_keys_are_judged_apart() {
    let text = "{:process 0, :type :invoke, :f :write, :value [1 3]}\n{:process 0, :type :ok, :f :write, :value [1 3]}\n\
                {:process 0, :type :invoke, :f :cas, :value [2 [nil 3]]}\n{:process 0, :type :ok, :f :cas, :value [2 [nil 3]]}\n\
                {:process 1, :type :invoke, :f :read, :value [1 nil]}\n{:process 1, :type :ok, :f :read, :value [1 3]}";
    let history = parse(text).expect("a history");
    assert_eq!(history.columns.keys.len(), 2);
    assert_eq!(verdict(text), Overall::Holds);
    assert_eq!(
        verdict(&text.replace(":ok, :f :read, :value [1 3]", ":ok, :f :read, :value [1 4]")),
        Overall::Violated
    );
}

#[test]
fn what_a_refused_cas_says_depends_on_the_format_and_the_reason() {
    let refused = "{:process 0, :type :invoke, :f :write, :value 1}\n{:process 0, :type :ok, :f :write, :value 1}\n\
                   {:process 1, :type :invoke, :f :cas, :value [1 2]}\n{:process 1, :type :fail, :f :cas, :value [1 2]}\n\
                   {:process 0, :type :invoke, :f :read}\n{:process 0, :type :ok, :f :read, :value 1}";
    let tells = Options { refusals_tell: Some(true), ..Options::default() };
    let told = |text: &str| {
        let history = import::parse("h", text.as_bytes().to_vec(), &tells).expect("a history");
        linear::check_imported(&history, &linear::Options::default()).verdict
    };
    assert_eq!(parse(refused).expect("a history").refusals_ignored, 1);
    assert_eq!((verdict(refused), told(refused)), (Overall::Holds, Overall::Violated));
    let with_reason = refused.replace(":fail, :f :cas,", ":fail, :error :no-leader, :f :cas,");
    assert_eq!((verdict(&with_reason), told(&with_reason)), (Overall::Holds, Overall::Holds));
    let log = "INFO  jepsen.util - 0\t:invoke\t:write\t1\nINFO  jepsen.util - 0\t:ok\t:write\t1\n\
               INFO  jepsen.util - 1\t:invoke\t:cas\t[1 2]\nINFO  jepsen.util - 1\t:fail\t:cas\t[1 2]\n";
    assert_eq!(verdict(log), Overall::Violated);
}

#[test]
fn a_lock_is_held_by_one_at_a_time() {
    let twice = r#"{"process":0,"type":"invoke","f":"acquire"}
{"process":0,"type":"ok","f":"acquire"}
{"process":1,"type":"invoke","f":"RELEASE"}
{"process":1,"type":"ok","f":"RELEASE"}
{"process":2,"type":"invoke","f":"acquire"}
{"process":2,"type":"ok","f":"acquire"}
"#;
    assert_eq!(verdict(&twice.replace("RELEASE", "release")), Overall::Holds);
    let without: Vec<&str> = twice.lines().filter(|line| !line.contains("RELEASE")).collect();
    assert_eq!(verdict(&without.join("\n")), Overall::Violated);
}

#[test]
fn a_value_is_the_same_however_it_is_written() {
    let history = |write: &str, read: &str| {
        format!(
            "{{\"process\":0,\"type\":\"invoke\",\"f\":\"write\",\"value\":{write}}}\n{{\"process\":0,\"type\":\"ok\",\"f\":\"write\"}}\n\
             {{\"process\":0,\"type\":\"invoke\",\"f\":\"read\"}}\n{{\"process\":0,\"type\":\"ok\",\"f\":\"read\",\"value\":{read}}}\n"
        )
    };
    for (write, read) in
        [("1.5", "1.50"), ("1e3", "1000.0"), (r#""\u0041""#, r#""A""#), (r#""a\/b""#, r#""a/b""#)]
    {
        assert_eq!(verdict(&history(write, read)), Overall::Holds, "{write} {read}");
    }
    for (write, read) in
        [("1.5", "1.51"), ("12345678901234567890123.0", "12345678901234567890124.0"), (r#""A""#, r#""a""#)]
    {
        assert_eq!(verdict(&history(write, read)), Overall::Violated, "{write} {read}");
    }
}

#[test]
fn what_is_no_text_is_named() {
    let packed = |bytes: &[u8]| {
        import::parse("h", bytes.to_vec(), &Options::default()).expect_err("no text").to_string()
    };
    assert_eq!(packed(b"\x1F\x8B\x08\0"), "h:1:1: not text but gzip; unpack it first");
    assert_eq!(packed(b"\xFF\xFE{\0"), "h:1:1: not text but UTF-16; unpack it first");
    assert!(error(r#"{"process":99999999999999999999,"type":"invoke","f":"read"}"#).starts_with("h:1:12: "));
}

#[test]
fn a_refused_cas_may_tell_the_value() {
    let text = r#"{"process":0,"type":"invoke","f":"cas","value":[7,8]}
{"process":0,"type":"fail","f":"cas","current":null}
"#;
    assert_eq!(verdict(text), Overall::Holds);
    assert_eq!(verdict(&text.replace("null}", "3}")), Overall::Violated, "nobody wrote 3");
}

#[test]
fn a_jepsen_log_among_other_lines() {
    let text = "INFO  jepsen.core - Worker 3 starting\nINFO  jepsen.util - 0\t:invoke\t:write\t1\n\
                INFO  jepsen.util - :nemesis\t:info\t:start\tnil\nINFO  jepsen.util - 0\t:ok\t:write\t1\n";
    let history = parse(text).expect("a history");
    assert_eq!((history.format, history.operations, history.events_ignored), (Format::JepsenLog, 1, 2));
    let whole =
        format!("\nlein test jepsen.system.etcd-test\n{text}\nRan 1 tests containing 1 assertions.\n");
    let history = parse(&whole).expect("a history");
    assert_eq!((history.format, history.operations, history.events_ignored), (Format::JepsenLog, 1, 4));
}

#[test]
fn lists_begin_with_reads_as_well() {
    let text = "{:process 0, :type :invoke, :f :read}\n{:process 0, :type :ok, :f :read, :value []}\n\
                {:process 0, :type :invoke, :f :append, :value 1}\n{:process 0, :type :ok, :f :append, :value 1}";
    assert_eq!(parse(text).expect("a history").model, Some(Model::Append));
    assert_eq!(verdict(text), Overall::Holds);
}

#[test]
fn a_completion_without_invocation_is_an_error_with_its_line() {
    let text =
        "{:process 0, :type :invoke, :f :write, :value 1}\n  {:process 3, :type :ok, :f :write, :value 1}";
    assert_eq!(error(text), "h:2:3: process 3 completes an operation that it did not invoke");
}

#[test]
fn an_unknown_outcome_without_invocation_is_counted_and_ignored() {
    let text =
        "{:process 0, :type :invoke, :f :write, :value 1}\n{:process 3, :type :info, :f :write, :value 1}";
    assert_eq!(parse(text).expect("a history").infos_ignored, 1);
}

#[test]
fn two_operations_at_once_are_an_error() {
    let text = "{:process 0, :type :invoke, :f :read}\n{:process 0, :type :invoke, :f :read}";
    assert_eq!(error(text), "h:2:1: process 0 invokes an operation while it has another open");
}

#[test]
fn misspelled_words_get_a_suggestion() {
    let text = "{\"process\": 0, \"type\": \"invoke\", \"f\": \"wirte\", \"value\": 1}";
    assert_eq!(
        error(text),
        "h:1:39: operation `wirte` is unknown; allowed: read, write, cas, append, get, put, acquire, release, txn, transfer; did you mean `write`?"
    );
    let text = "{\"process\": 0, \"type\": \"invoke\", \"f\": \"write\", \"valeu\": 1}";
    assert!(error(text).ends_with("did you mean `value`?"), "{}", error(text));
    assert!(error("{:process 0, :type :invok, :f :read}").ends_with("did you mean `invoke`?"));
}

#[test]
fn operations_of_another_model_are_refused() {
    let text =
        "{:process 0, :type :invoke, :f :write, :value 1}\n{:process 1, :type :invoke, :f :append, :value 1}";
    let message = error(text);
    assert!(message.starts_with("h:2:1: for this model the operation `append` is unknown"), "{message}");
}

#[test]
fn cut_off_files_say_where() {
    let whole = "{:process 0, :type :invoke, :f :write, :value \"abc\"}\n{:process 0, :type :ok, :f :write}";
    for end in 1..whole.len() {
        if let Err(error) = parse(&whole[..end]) {
            let text = error.to_string();
            assert!(text.starts_with("h:1:") || text.starts_with("h:2:"), "{end}: {text}");
        }
    }
}

#[test]
fn other_files_are_no_histories() {
    assert!(error("hello\nworld").contains("not a history"));
    assert!(error("").contains("nothing to check"));
    assert!(error("[]").contains("not a history"));
    assert!(error("{:process :nemesis, :type :info, :f :start}").contains("nothing to check"));
    assert!(error("\u{0}\u{1}\u{2}").contains("not a history"));
}

#[test]
fn a_missing_file_is_named() {
    let missing = import::open(std::path::Path::new("no/such/file"), &Options::default());
    assert!(missing.expect_err("missing").to_string().starts_with("no/such/file: "));
}

#[test]
fn damaged_files_are_errors_or_histories_and_never_a_panic() {
    use firedrill_checkers::bench::rng::Rng;
    let write = etcd(&[(1, 10, 20, &put("a", 1), &done(2)), (2, 30, 40, &get("a"), &found(2, "a", 1, 2))]);
    let whole: [&[u8]; 6] = [
        write.as_bytes(),
        b"#jepsen.history.Op{:process 0, :type :invoke, :f :txn, :value [[:append 1 2] [:r 3 nil]]}\n\
          #_ 5 {:process 0, :type :ok, :f :txn, :value [[:append 1 2] [:r 3 [\\a]]]} ; end\n",
        b"{:process 0, :type :invoke, :f :cas, :value [1 2], :time 5}\n{:process 0, :type :fail, :f :cas, :value [1 2]}\n\
          {:process 1, :type :invoke, :f :read, :value [7 nil]}\n{:process 1, :type :ok, :f :read, :value [7 3]}\n",
        b"{\"process\":0,\"type\":\"invoke\",\"f\":\"append\",\"value\":-1}\n{\"process\":0,\"type\":\"ok\",\"f\":\"append\"}\n\
          {\"process\":1,\"type\":\"invoke\",\"f\":\"read\"}\n{\"process\":1,\"type\":\"ok\",\"f\":\"read\",\"value\":[-1,\"x\\\\\"]}\n",
        b"INFO  jepsen.util - 4\t:invoke\t:write\t3\nINFO  jepsen.util - 4\t:info\t:write\t:timed-out\n\
          INFO  jepsen.util - 1\t:invoke\t:read\tnil\nINFO  jepsen.util - 1\t:ok\t:read\t3\n",
        b"{:process 3, :type :invoke, :f :put, :key \"0\", :value \"ab\"}\n{:process 3, :type :ok, :f :put, :key \"0\", :value \"ab\"}\n\
          {:process 2, :type :invoke, :f :get, :key \"0\", :value nil}\n{:process 2, :type :ok, :f :get, :key \"0\", :value \"ab\"}\n",
    ];
    let mut rng = Rng::new(40);
    let mut read = 0;
    for round in 0..30_000 {
        let mut text = whole[round % whole.len()].to_vec();
        for _ in 0..=rng.below(3) {
            let at = rng.below(text.len() as u64) as usize;
            match rng.below(4) {
                0 => text[at] = b" {}[]():\"\\,;#-0nil\n\xFF"[rng.below(20) as usize],
                1 => text.truncate(at.max(1)),
                2 if text.len() > 1 => _ = text.remove(at),
                _ => text.insert(at, b"{}[]\":-9"[rng.below(8) as usize]),
            }
        }
        if let Ok(history) = import::parse("h", text, &Options::default()) {
            read += 1;
            if let Some(transactions) = &history.transactions {
                assert!(!transactions.check(&linear::Options::default()).to_human().is_empty());
                continue;
            }
            let report = linear::check_imported(&history, &linear::Options::default());
            assert!(!report.to_human().is_empty() && !report.to_html("h").is_empty());
        }
    }
    assert!(read > 1_000, "some damage is harmless: {read}");
}

#[test]
fn versions_that_the_store_tells_are_used() {
    let lines = |events: &[(u32, &str, &str, &str)]| -> String {
        let line = |(process, kind, f, rest): &(u32, &str, &str, &str)| {
            format!("{{\"process\":{process},\"type\":\"{kind}\",\"f\":\"{f}\"{rest}}}\n")
        };
        events.iter().map(line).collect()
    };
    let write = |process, value: &'static str, told: &'static str| {
        [(process, "invoke", "write", value), (process, "ok", "write", told)]
    };
    // One value written twice: which of the two a read saw only its version tells.
    let mut events = Vec::new();
    events.extend(write(0, ",\"value\":7", ",\"version\":1"));
    events.extend(write(0, ",\"value\":8", ",\"version\":2"));
    events.extend(write(0, ",\"value\":7", ",\"version\":5"));
    events.push((1, "invoke", "read", ""));
    let read = |version| {
        let mut events = events.clone();
        events.push((1, "ok", "read", version));
        linear::check_imported(&parse(&lines(&events)).expect("a history"), &linear::Options::default())
    };
    assert_eq!(read(",\"value\":7").verdict, Overall::Holds);
    assert_eq!(read(",\"value\":7,\"version\":5").verdict, Overall::Holds);
    let stale = read(",\"value\":7,\"version\":1");
    let (_, evidence) = stale.strongest().expect("it saw a version that had been replaced");
    assert_eq!(evidence.class, linear::Class::StaleRead);
    let wrong = read(",\"value\":7,\"version\":2");
    let (_, evidence) = wrong.strongest().expect("version 2 was another value");
    assert_eq!(evidence.class, linear::Class::VersionOrder);
    let bad = lines(&[(0, "invoke", "write", ",\"value\":7"), (0, "ok", "write", ",\"version\":\"two\"")]);
    assert_eq!(error(&bad), "h:2:48: a version is a whole number from 1");
}

/// The forms in which Jepsen, Knossos and people write one and the same history.
#[test]
fn edn_in_all_its_forms() {
    let plain = "{:process 0, :type :invoke, :f :write, :value 3}\n{:process 0, :type :ok, :f :write, :value 3}\n\
                 {:process 1, :type :invoke, :f :read, :value nil}\n{:process 1, :type :ok, :f :read, :value 3}\n";
    let op = plain.replace('{', "#jepsen.history.Op{:index 4, :time 123456789012, ");
    let record = plain.replace('{', "#jepsen.history.Op {");
    let forms = [
        plain.to_owned(),
        plain.replace('\n', "\r\n"),
        format!("\u{feff}{plain}"),
        plain.replace(',', " "),
        plain.replace(',', " ,, \n\t"),
        format!("[{plain}]"),
        format!("({plain})"),
        format!("; a comment\n{}", plain.replace('\n', " ; and another { [ \"\n")),
        plain.replace(", :f", " ; inside {\n :f"),
        format!("#_ {{:process 9, :type :ok, :f :read, :value 1}} {plain}"),
        plain.replace(":f :", ":error nil, :latency 1.5e-3, :ok? true, :ratio 1/3, :f :"),
        plain.replace(":f :", ":debug {:a #{1 2} :b [\\} \\\" \"}\" #inst \"2020-01-01\"]}, :f :"),
        plain.replace(":f :", ":time nil, :node \"n1\", :link-time #object[java.time 0x1 \"x\"], :f :"),
        plain.trim_end().to_owned(),
        op,
        record,
    ];
    for form in forms {
        let history = parse(&form).unwrap_or_else(|error| panic!("{error}\n{form}"));
        assert_eq!((history.operations, history.columns.keys.len()), (2, 1), "{form}");
        assert_eq!(verdict(&form), Overall::Holds, "{form}");
        assert_eq!(
            verdict(
                &form
                    .replace(":f :read, :value 3", ":f :read, :value 4")
                    .replace(":f :read  :value 3", ":f :read  :value 4")
                    .replace(":read ,, \n\t :value 3", ":read ,, \n\t :value 4")
            ),
            Overall::Violated,
            "{form}"
        );
    }
}

#[test]
fn a_nemesis_may_write_what_it_likes() {
    let client =
        "{:process 0, :type :invoke, :f :write, :value 3}\n{:process 0, :type :ok, :f :write, :value 3}\n";
    let nemesis = [
        "{:type :info, :f :start-partition, :process :nemesis, :value [:isolated {\"n1\" #{\"n2\" \"n3\"}}]}",
        "{:process :nemesis, :type :info, :f :kill, :value {\"n1\" :killed}, :time 5}",
        "{:process :nemesis, :type :info, :f nil, :value nil}",
        "{:process :nemesis/pause, :type :invoke, :f :nemesis/start, :value (1 2 (3))}",
        "{:process \"nemesis\", :type :sleep, :value 10}",
        "{:type :log, :process :nemesis, :value \"a } brace\"}",
    ];
    for line in nemesis {
        let text = format!("{line}\n{client}{line}");
        let history = parse(&text).unwrap_or_else(|error| panic!("{error}\n{line}"));
        assert_eq!((history.operations, history.events_ignored), (1, 2), "{line}");
    }
}

/// Made by hand after the structure of the files that etcd's robustness tests save; no file of theirs is kept here.
fn etcd(operations: &[(i64, u64, u64, &str, &str)]) -> String {
    let line = |(client, call, end, input, output): &(i64, u64, u64, &str, &str)| {
        format!(
            "{{\"ClientId\":{client},\"Input\":{input},\"Call\":{call},\"Output\":{output},\"Return\":{end}}}\n"
        )
    };
    operations.iter().map(line).collect()
}

fn put(key: &str, value: u32) -> String {
    format!(
        r#"{{"Type":"txn","LeaseGrant":null,"Range":null,"Txn":{{"Conditions":null,"OperationsOnSuccess":[{{"Type":"put-operation","Range":{{"Start":"","End":"","Limit":0}},"Put":{{"Key":"{key}","Value":{{"Value":"{value}","Hash":0}},"LeaseID":0}},"Delete":{{"Key":""}}}}],"OperationsOnFailure":null}},"Defragment":null}}"#
    )
}

fn get(key: &str) -> String {
    format!(r#"{{"Type":"range","Range":{{"Start":"{key}","End":"","Limit":0,"Revision":0}},"Txn":null}}"#)
}

fn done(revision: i64) -> String {
    format!(
        r#"{{"Txn":{{"Failure":false,"Results":[{{"KVs":null,"Count":0,"Deleted":0}}]}},"Range":null,"Revision":{revision},"Error":""}}"#
    )
}

fn found(revision: i64, key: &str, value: u32, at: i64) -> String {
    format!(
        r#"{{"Txn":null,"Range":{{"KVs":[{{"Key":"{key}","Value":{{"Value":"{value}"}},"ModRevision":{at},"Version":1}}],"Count":1}},"Revision":{revision},"member-id":"1f","Error":""}}"#
    )
}

fn nothing(revision: i64) -> String {
    format!(r#"{{"Range":{{"KVs":[],"Count":0}},"Revision":{revision},"PartialResponse":false,"Error":""}}"#)
}

const ERROR: &str =
    r#"{"Txn":null,"Range":null,"Revision":0,"Persisted":false,"Error":"context deadline exceeded"}"#;

fn judged(text: &str) -> firedrill_checkers::transactions::Report {
    let history = parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(history.format, Format::EtcdRobustness);
    history.transactions.expect("a store").check(&linear::Options::default())
}

#[test]
fn etcd_robustness_operations() {
    let (a, b, x) = (put("a", 1), put("b", 2), put("a", 3));
    let base = |last: (i64, u64, u64, &str, &str)| {
        etcd(&[(1, 10, 20, &a, &done(2)), (2, 30, 40, &b, &done(3)), (1, 50, 60, &x, &done(4)), last])
    };
    let holds = judged(&base((3, 70, 80, &get("a"), &found(4, "a", 3, 4))));
    assert_eq!((holds.verdict, holds.statistics.transactions, holds.statistics.keys), (Overall::Holds, 4, 2));
    use firedrill_checkers::transactions::Class;
    let cases: [(&str, String, Class); 6] = [
        ("stale, and says so", base((3, 70, 80, &get("a"), &found(3, "a", 1, 2))), Class::RealTime),
        (
            "stale, by the same client",
            base((1, 70, 80, &get("a"), &found(3, "a", 1, 2))),
            Class::SessionOrder,
        ),
        (
            "stale, at the right revision",
            base((3, 70, 80, &get("a"), &found(4, "a", 1, 2))),
            Class::WrongState,
        ),
        ("a key is missing", base((3, 70, 80, &get("b"), &nothing(4))), Class::WrongState),
        ("nobody wrote that", base((3, 70, 80, &get("a"), &found(4, "a", 9, 4))), Class::WrongState),
        ("two writes, one revision", base((3, 70, 80, &put("c", 4), &done(4))), Class::TwoWrites),
    ];
    for (what, text, class) in cases {
        let report = judged(&text);
        assert_eq!((report.verdict, report.anomalies[0].class), (Overall::Violated, class), "{what}");
        assert!(report.to_human().contains("revision"), "{what}: {}", report.to_human());
    }
    // While it is open, either answer is right.
    assert_eq!(judged(&base((3, 45, 80, &get("a"), &found(3, "a", 1, 2)))).verdict, Overall::Holds);
}

#[test]
fn etcd_writes_of_unknown_outcome_and_missing_clients() {
    let (a, x) = (put("a", 1), put("a", 3));
    let lost = etcd(&[(1, 10, 20, &a, ERROR), (2, 30, 40, &get("a"), &nothing(1))]);
    assert_eq!(judged(&lost).verdict, Overall::Holds);
    let late = etcd(&[
        (1, 10, 20, &a, ERROR),
        (2, 30, 40, &get("a"), &nothing(1)),
        (2, 50, 60, &get("a"), &found(2, "a", 1, 2)),
    ]);
    assert_eq!(judged(&late).verdict, Overall::Holds);
    let gone = etcd(&[
        (1, 10, 20, &a, ERROR),
        (2, 30, 40, &get("a"), &found(2, "a", 1, 2)),
        (2, 50, 60, &get("a"), &nothing(2)),
    ]);
    assert_eq!(judged(&gone).verdict, Overall::Violated);
    let unseen = etcd(&[
        (1, 10, 20, &a, ERROR),
        (2, 30, 40, &x, &done(3)),
        (2, 50, 60, &get("a"), &found(3, "a", 3, 3)),
    ]);
    assert_eq!(judged(&unseen).verdict, Overall::Holds);
    let missing = judged(&etcd(&[(2, 30, 40, &x, &done(9)), (2, 50, 60, &get("a"), &found(9, "a", 3, 9))]));
    assert_eq!(missing.verdict, Overall::Unknown);
    assert!(missing.notes[0].contains("7 revisions"), "{:?}", missing.notes);
    let partial = etcd(&[
        (1, 10, 20, &a, r#"{"Revision":2,"PartialResponse":true,"Error":""}"#),
        (2, 30, 40, &get("a"), &found(2, "a", 1, 2)),
    ]);
    assert_eq!(judged(&partial).verdict, Overall::Holds);
}

#[test]
fn etcd_transactions_compare_and_ranges_are_whole() {
    let cas = |revision: i64| {
        format!(
            r#"{{"Type":"txn","Txn":{{"Conditions":[{{"Key":"a","ExpectedRevision":{revision},"ExpectedVersion":0}}],"OperationsOnSuccess":[{{"Type":"put-operation","Put":{{"Key":"a","Value":{{"Hash":77}}}}}}],"OperationsOnFailure":[{{"Type":"range-operation","Range":{{"Start":"a"}}}}]}}}}"#
        )
    };
    let refused = r#"{"Txn":{"Failure":true,"Results":[{"KVs":[{"Key":"a","Value":{"Value":"1"},"ModRevision":2}],"Count":1}]},"Revision":2,"Error":""}"#;
    let a = put("a", 1);
    let history =
        |expected, answer: &str| etcd(&[(1, 10, 20, &a, &done(2)), (1, 30, 40, &cas(expected), answer)]);
    assert_eq!(judged(&history(2, &done(3))).verdict, Overall::Holds);
    assert_eq!(judged(&history(7, &done(3))).verdict, Overall::Violated);
    assert_eq!(judged(&history(7, refused)).verdict, Overall::Holds);
    assert_eq!(judged(&history(2, refused)).verdict, Overall::Violated);
    let list = r#"{"Type":"range","Range":{"Start":"a","End":"c","Limit":0,"Revision":0}}"#;
    let both = r#"{"Range":{"KVs":[{"Key":"a","Value":{"Value":"1"},"ModRevision":2},{"Key":"b","Value":{"Value":"2"},"ModRevision":3}],"Count":2},"Revision":3}"#;
    let one =
        r#"{"Range":{"KVs":[{"Key":"b","Value":{"Value":"2"},"ModRevision":3}],"Count":1},"Revision":3}"#;
    let limited =
        r#"{"Range":{"KVs":[{"Key":"b","Value":{"Value":"2"},"ModRevision":3}],"Count":2},"Revision":3}"#;
    let b = put("b", 2);
    for (answer, expected) in [(both, Overall::Holds), (one, Overall::Violated), (limited, Overall::Holds)] {
        let text = etcd(&[(1, 10, 20, &a, &done(2)), (1, 30, 40, &b, &done(3)), (2, 50, 60, list, answer)]);
        assert_eq!(judged(&text).verdict, expected, "{answer}");
    }
    let delete =
        r#"{"Type":"txn","Txn":{"OperationsOnSuccess":[{"Type":"delete-operation","Delete":{"Key":"a"}}]}}"#;
    let deleted =
        |n| format!(r#"{{"Txn":{{"Failure":false,"Results":[{{"Deleted":{n}}}]}},"Revision":{}}}"#, 2 + n);
    for (n, expected) in [(1, Overall::Holds), (0, Overall::Violated)] {
        let text = etcd(&[(1, 10, 20, &a, &done(2)), (1, 30, 40, delete, &deleted(n))]);
        assert_eq!(judged(&text).verdict, expected, "{n} deleted");
    }
}

#[test]
fn etcd_files_are_read_by_folder_and_errors_say_where() {
    let folder = std::env::temp_dir().join(format!("firedrill-etcd-{}", std::process::id()));
    let (a, b) = (put("a", 1), get("a"));
    let first = etcd(&[(1, 10, 20, &a, &done(2))]);
    // The newer form: indented, with what Porcupine adds.
    let second = etcd(&[(2, 30, 40, &b, &found(2, "a", 1, 2))])
        .replace(',', ",\n  ")
        .replace("\"Return\":40", "\"Return\":40,\"Metadata\":{\"Revision\":2}");
    for (client, text) in [("client-1", &first), ("client-2", &second)] {
        std::fs::create_dir_all(folder.join(client)).expect("a folder");
        std::fs::write(folder.join(client).join("operations.json"), text).expect("a file");
    }
    std::fs::write(folder.join("client-1").join("watch.json"), "{}").expect("a file");
    let history = import::open(&folder, &Options::default()).expect("a report");
    assert_eq!(history.operations, 2);
    let report = history.transactions.expect("a store").check(&linear::Options::default());
    assert_eq!(report.verdict, Overall::Holds, "{}", report.to_human());
    std::fs::write(folder.join("client-2").join("operations.json"), second.replace("range", "rage"))
        .expect("a file");
    let text = import::open(&folder, &Options::default()).expect_err("a wrong word").to_string();
    assert!(
        text.contains("client-2/operations.json:2:")
            && text.contains("unknown variant `rage`, expected one of `range`, `txn`"),
        "{text}"
    );
    std::fs::remove_dir_all(&folder).expect("it was ours");
    let cut = &first[..first.len() / 2];
    let text = error(cut);
    assert!(text.starts_with("h:1:") && text.contains("EOF while parsing"), "{text}");
    let backwards = etcd(&[(1, 20, 10, &a, &done(2))]);
    assert_eq!(error(&backwards), "h:1:1: an operation whose `Return` is before its `Call`");
    assert!(error(&first.replace("\"Call\":10,", "")).contains("missing field `Call`"));
}
