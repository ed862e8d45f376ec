//! The nearest right name for a wrong one.

/// The name with the fewest edits from `wrong`, if it is near enough to be what was meant.
pub fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = |name: &str| strsim::damerau_levenshtein(wrong, name);
    names
        .map(|name| (near(name), name))
        .filter(|(edits, _)| *edits <= wrong.len().max(3) / 3 + 1)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_its_name_and_nonsense_finds_none() {
        assert_eq!(nearest("pasue", ["pause", "crash"].into_iter()), Some("pause"));
        assert_eq!(nearest("xyzzyx", ["pause", "crash"].into_iter()), None);
    }
}
