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
    let whole: [&[u8]; 4] = [
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
    for round in 0..20_000 {
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
            let report = linear::check_imported(&history, &linear::Options::default());
            assert!(!report.to_human().is_empty() && !report.to_html("h").is_empty());
        }
    }
    assert!(read > 1_000, "some damage is harmless: {read}");
}
