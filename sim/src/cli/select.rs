//! Which scenarios a command line names: files, folders, names and patterns.

use super::{Cli, Failure};
use crate::backends::Backend;
use crate::campaign::Job;
use crate::scenario::{Loaded, Seeds, load};
use std::path::{Path, PathBuf};

/// The museum is not part of a default run.
const MUSEUM: &str = "museum";
/// Nor are scenarios that compare with measurements, and those that must fail.
const APART: [&str; 3] = [MUSEUM, "calibration", "canary"];

/// The scenarios that the arguments name; all but the museum if there are none.
pub(super) fn scenarios(cli: &Cli, names: &[String]) -> Result<Vec<Loaded>, Failure> {
    let paths = if names.is_empty() {
        everything(&cli.scenarios)?
    } else {
        let mut paths = Vec::new();
        for name in names {
            paths.extend(named(&cli.scenarios, name)?);
        }
        paths
    };
    let mut loaded = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for path in paths {
        // Named twice, by its folder and by itself: it is one scenario.
        if seen.insert(path.clone()) {
            loaded.push(load(&path)?);
        }
    }
    Ok(loaded)
}

/// Results, records and capsules go by the names of scenarios: two that share a file name could not be told apart.
pub(super) fn tell_apart<'a>(scenarios: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), Failure> {
    let mut paths = std::collections::BTreeMap::new();
    for (name, path) in scenarios {
        if let Some((other, first)) = paths.insert(super::run::file_name(name), (name, path)) {
            return Err(Failure::BadInput(format!(
                "{first} and {path} cannot be part of one campaign: they are called `{other}` and `{name}`\n  help: give \
                 one of them another `name`, or run them apart"
            )));
        }
    }
    Ok(())
}

/// The same, with the seeds to run.
pub(super) fn jobs(
    cli: &Cli,
    names: &[String],
    seeds: Option<&Seeds>,
    backend: Backend,
) -> Result<Vec<Job>, Failure> {
    // One draw of `random:` serves all scenarios, so that they can be compared seed by seed.
    let entropy = entropy();
    let loaded = scenarios(cli, names)?;
    tell_apart(loaded.iter().map(|loaded| (loaded.scenario.name.as_str(), loaded.path.as_str())))?;
    loaded
        .into_iter()
        .map(|loaded| {
            let own = loaded.scenario.seeds.clone();
            let list = seeds.unwrap_or(&own).list(entropy)?;
            Ok(Job { loaded, seeds: list, own_seeds: seeds.is_none(), backend })
        })
        .collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "`random:N` is meant to differ between calls; the draw is printed"
)]
fn entropy() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64
}

/// The museum's entries.
pub(super) fn museum(cli: &Cli, names: &[String]) -> Result<Vec<Loaded>, Failure> {
    let root = cli.scenarios.join(MUSEUM);
    if names.is_empty() {
        return folder(&root).into_iter().map(|path| Ok(load(&path)?)).collect();
    }
    let mut loaded = Vec::new();
    for name in names {
        let name = name.strip_prefix("museum/").unwrap_or(name);
        for path in named(&root, name)? {
            loaded.push(load(&path)?);
        }
    }
    Ok(loaded)
}

fn everything(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !root.is_dir() {
        let help = "run from the project's folder, or name it with --scenarios";
        return Err(Failure::Missing(format!("no folder {} here; {help}", root.display())));
    }
    let apart = |path: &PathBuf| {
        let inside = path.strip_prefix(root).unwrap_or(path);
        inside.components().next().is_some_and(|first| APART.iter().any(|name| first.as_os_str() == *name))
    };
    let paths: Vec<PathBuf> = folder(root).into_iter().filter(|path| !apart(path)).collect();
    if paths.is_empty() { Err(Failure::Nothing(root.display().to_string())) } else { Ok(paths) }
}

/// What one argument names: a file, a folder, a scenario by name, or a pattern over names.
fn named(root: &Path, name: &str) -> Result<Vec<PathBuf>, Failure> {
    let direct = Path::new(name);
    for path in [direct.to_owned(), root.join(name), root.join(format!("{name}.json"))] {
        if path.is_file() {
            return Ok(vec![path]);
        }
        if path.is_dir() {
            let found = folder(&path);
            return if found.is_empty() { Err(Failure::Nothing(name.to_owned())) } else { Ok(found) };
        }
    }
    if name.contains(['*', '?', '[']) {
        let pattern = glob::Pattern::new(name).map_err(|error| Failure::Usage(format!("{name}: {error}")))?;
        let matching = |path: &PathBuf| pattern.matches(&name_of(root, path));
        let found: Vec<PathBuf> = folder(root).into_iter().filter(matching).collect();
        return if found.is_empty() { Err(Failure::Nothing(name.to_owned())) } else { Ok(found) };
    }
    if name.ends_with(".json") || name.starts_with(['.', '/']) {
        return Err(Failure::Missing(format!("cannot read {name}: no such file or folder")));
    }
    let known: Vec<String> = folder(root).iter().map(|path| name_of(root, path)).collect();
    match crate::nearest::nearest(name, known.iter().map(String::as_str)) {
        Some(near) => Err(Failure::Nothing(format!("`{name}`; did you mean `{near}`?"))),
        None => Err(Failure::Nothing(format!("`{name}`"))),
    }
}

/// A scenario's name by its place.
fn name_of(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).with_extension("").to_string_lossy().replace('\\', "/")
}

/// All scenario files below a folder, in order.
fn folder(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(root) else { return found };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(folder(&path));
        } else if path.extension().is_some_and(|extension| extension == "json")
            && path.file_name().is_none_or(|name| name != "schema.json")
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::tell_apart;

    #[test]
    fn scenarios_of_one_campaign_need_names_that_differ_as_file_names_too() {
        assert!(tell_apart([("a/b", "1.json"), ("a/c", "2.json")].into_iter()).is_ok());
        for twin in ["a/b", "a-b"] {
            let refused = tell_apart([("a/b", "1.json"), (twin, "2.json")].into_iter());
            let text = refused.expect_err("they share a file name").to_string();
            assert!(text.contains("1.json") && text.contains("2.json") && text.contains(twin), "{text}");
        }
    }
}
