//! Holds `docs/configuration.md` and the examples against the schema.

use config::Config;
use config::schema::{Reload, SECTIONS, Section};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

fn reference() -> String {
    std::fs::read_to_string(docs().join("configuration.md")).expect("the configuration reference")
}

/// The part of the reference under the heading of `section`.
fn part<'a>(reference: &'a str, section: &Section) -> &'a str {
    let heading = match section.title {
        "" => "\n## Sections\n".to_owned(),
        title => format!("\n## `{title}`\n"),
    };
    let (_, rest) = reference.split_once(&heading).unwrap_or_else(|| panic!("no {heading:?}"));
    rest.split("\n## ").next().unwrap_or(rest)
}

/// The rows of its table of keys: key to type, values and default.
fn rows(part: &str) -> BTreeMap<String, [String; 3]> {
    let table = part.lines().filter(|line| line.starts_with("| `"));
    table
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            assert_eq!(cells.len(), 5, "a row has five cells: {line}");
            assert!(!cells[4].is_empty(), "a row says what its key means: {line}");
            let cell = |index: usize| cells[index].to_owned();
            (cells[0].trim_matches('`').to_owned(), [cell(1), cell(2), cell(3)])
        })
        .collect()
}

#[test]
fn reference_has_exactly_the_keys_types_ranges_and_defaults_of_the_schema() {
    let reference = reference();
    for section in SECTIONS {
        let keys = section.keys.iter().map(|key| {
            (key.name.to_owned(), [key.type_cell(), key.values_cell(), key.default_cell()])
        });
        let expected: BTreeMap<_, _> = keys.collect();
        assert_eq!(expected.len(), section.keys.len(), "{}: a key is there twice", section.title);
        assert_eq!(rows(part(&reference, section)), expected, "section {:?}", section.title);
    }
}

#[test]
fn reference_has_no_section_that_the_schema_lacks() {
    let reference = reference();
    let titled = reference.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`'));
    let known: Vec<_> =
        SECTIONS.iter().map(|section| section.title).filter(|t| !t.is_empty()).collect();
    assert_eq!(titled.collect::<Vec<_>>(), known);
}

#[test]
fn reference_says_when_a_change_takes_effect() {
    let reference = reference();
    for section in SECTIONS.iter().filter(|section| !section.title.is_empty()) {
        let says = match section.reload {
            Reload::Live => "\n**A change takes effect at a reload.**",
            Reload::Restart => "\n**A change needs a restart.**",
        };
        assert!(part(&reference, section).starts_with(says), "section {}", section.title);
    }
}

#[test]
fn example_in_the_reference_is_good() {
    let reference = reference();
    let (_, rest) = reference.split_once("```toml\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("an end of the example");
    let loaded = Config::parse(example, "example").unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings, []);
}

#[test]
fn example_files_are_good() {
    let directory = std::fs::read_dir(docs().join("examples")).expect("the examples");
    let mut count = 0;
    for entry in directory {
        let path = entry.expect("an entry of the directory").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let loaded = Config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(loaded.warnings, [], "{}", path.display());
            count += 1;
        }
    }
    assert!(count >= 2);
}
