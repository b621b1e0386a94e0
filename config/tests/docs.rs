//! Holds `docs/configuration.md` and the examples against the schema.

use config::schema::{FILES, File, Reload, Section};
use config::{Config, Configuration};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

fn reference() -> String {
    std::fs::read_to_string(docs().join("configuration.md")).expect("the configuration reference")
}

/// The part of the reference that is about one kind of file.
fn chapter<'a>(reference: &'a str, file: &File) -> &'a str {
    let heading = format!("\n# The file of a {}\n", file.program);
    let (_, rest) = reference.split_once(&heading).unwrap_or_else(|| panic!("no {heading:?}"));
    rest.split("\n# ").next().unwrap_or(rest)
}

/// The part of a chapter under the heading of `section`.
fn part<'a>(chapter: &'a str, section: &Section) -> &'a str {
    let heading = match section.title {
        "" => "\n## Sections\n".to_owned(),
        title => format!("\n## `{title}`\n"),
    };
    let (_, rest) = chapter.split_once(&heading).unwrap_or_else(|| panic!("no {heading:?}"));
    rest.split("\n## ").next().unwrap_or(rest)
}

/// The sections described in the chapter of `FILES[index]`: those that no earlier one has.
fn own_sections(index: usize) -> Vec<&'static Section> {
    let (earlier, rest) = FILES.split_at(index);
    let described: Vec<_> = earlier.iter().flat_map(|file| file.sections).collect();
    let is_new = |section: &&&Section| !described.iter().any(|old| std::ptr::eq(**old, **section));
    rest[0].sections.iter().filter(is_new).copied().collect()
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
    for (index, file) in FILES.iter().enumerate() {
        let chapter = chapter(&reference, file);
        for section in own_sections(index) {
            let keys = section.keys.iter().map(|key| {
                (key.name.to_owned(), [key.type_cell(), key.values_cell(), key.default_cell()])
            });
            let expected: BTreeMap<_, _> = keys.collect();
            let title = section.title;
            assert_eq!(expected.len(), section.keys.len(), "{title}: a key is there twice");
            assert_eq!(rows(part(chapter, section)), expected, "{} {title:?}", file.program);
        }
    }
}

#[test]
fn reference_has_no_section_that_the_schema_lacks() {
    let reference = reference();
    for (index, file) in FILES.iter().enumerate() {
        let lines = chapter(&reference, file).lines();
        let titled = lines.filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`'));
        let titles = own_sections(index).into_iter().map(|section| section.title);
        let known: Vec<_> = titles.filter(|title| !title.is_empty()).collect();
        assert_eq!(titled.collect::<Vec<_>>(), known, "{}", file.program);
    }
}

#[test]
fn reference_says_when_a_change_takes_effect() {
    let reference = reference();
    for (index, file) in FILES.iter().enumerate() {
        for section in own_sections(index).iter().filter(|section| !section.title.is_empty()) {
            let says = match section.reload {
                Reload::Live => "\n**A change takes effect at a reload.**",
                Reload::Restart => "\n**A change needs a restart.**",
            };
            let part = part(chapter(&reference, file), section);
            assert!(part.starts_with(says), "{} {}", file.program, section.title);
        }
    }
}

#[test]
fn example_of_each_chapter_is_good() {
    let reference = reference();
    let example = |file| {
        let (_, rest) = chapter(&reference, file).split_once("```toml\n").expect("an example");
        let (example, _) = rest.split_once("```").expect("an end of the example");
        let loaded = Configuration::parse(example, "example");
        let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(loaded.warnings, []);
        loaded.config
    };
    assert!(matches!(example(&FILES[0]), Configuration::Node(_)));
    assert!(matches!(example(&FILES[1]), Configuration::Controller(_)));
    assert!(matches!(example(&FILES[2]), Configuration::Checker(_)));
}

#[test]
fn example_files_are_good() {
    let directory = std::fs::read_dir(docs().join("examples")).expect("the examples");
    let (mut nodes, mut controllers, mut checkers) = (0, 0, 0);
    for entry in directory {
        let path = entry.expect("an entry of the directory").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let loaded = Configuration::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(loaded.warnings, [], "{}", path.display());
            match loaded.config {
                Configuration::Node(_) => nodes += 1,
                Configuration::Controller(_) => controllers += 1,
                Configuration::Checker(_) => checkers += 1,
            }
        }
    }
    assert!(nodes >= 3 && controllers >= 2 && checkers >= 1);
}

#[test]
fn example_of_a_node_is_its_own_kind_only() {
    let path = docs().join("examples/controller.toml");
    let refused = Config::load(&path).expect_err("a controller's").to_string();
    assert!(refused.contains("(expected that of a node)"), "{refused}");
}
