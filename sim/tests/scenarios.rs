//! Every shipped scenario is valid, and the committed schema is the program's.

use firedrill::scenario::{load, schema};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).expect("the folder is there").flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "json") && !path.ends_with("schema.json") {
            found.push(path);
        }
    }
}

#[test]
fn every_scenario_is_valid_named_after_its_place_and_expects_something() {
    let mut found = Vec::new();
    files(&root(), &mut found);
    assert!(!found.is_empty());
    for path in found {
        let loaded = load(&path).unwrap_or_else(|error| panic!("{error}"));
        let place = path.strip_prefix(root()).expect("below the root").with_extension("");
        assert_eq!(loaded.scenario.name, place.to_string_lossy(), "{}", path.display());
        let expects = loaded.scenario.expect.len() + loaded.scenario.caught_by.len();
        assert!(expects > 0, "{} expects nothing", path.display());
        loaded.scenario.remedied().unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn the_committed_schema_is_the_programs() {
    let path = root().join("schema.json");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, schema()).expect("the schema can be written");
        return;
    }
    assert_eq!(committed, schema(), "run `firedrill schema > scenarios/schema.json`");
}
