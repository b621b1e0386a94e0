//! A strict reader of the Prometheus text format, version 0.0.4: what it takes, Prometheus takes.

use std::collections::{BTreeMap, BTreeSet};

/// A metric with its samples.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) kind: String,
    pub(crate) samples: Vec<(BTreeMap<String, String>, f64)>,
}

/// Reads a whole exposition; panics, naming the line, where it is not exactly right.
#[track_caller]
pub(crate) fn parse(text: &str) -> Vec<Family> {
    assert!(text.ends_with('\n'), "the last line ends in a line feed");
    let mut families: Vec<Family> = Vec::new();
    let mut names = BTreeSet::new();
    let mut series = BTreeSet::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let help = line.strip_prefix("# HELP ").unwrap_or_else(|| panic!("a HELP line: {line}"));
        let (name, help) = help.split_once(' ').expect("a name and a text");
        assert!(is_name(name, true), "a metric name: {line}");
        assert!(names.insert(name.to_owned()), "one HELP line a name: {line}");
        let line = lines.next().expect("a TYPE line");
        let kind = line.strip_prefix(&format!("# TYPE {name} "));
        let kind = kind.unwrap_or_else(|| panic!("a TYPE line of {name}: {line}"));
        assert!(matches!(kind, "counter" | "gauge"), "a type: {line}");
        let mut family = Family {
            name: name.to_owned(),
            help: unescape(help, false),
            kind: kind.to_owned(),
            samples: Vec::new(),
        };
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (labels, value) = sample(line, name);
            assert!(series.insert((name.to_owned(), labels.clone())), "a series twice: {line}");
            family.samples.push((labels, value));
        }
        families.push(family);
    }
    families
}

/// The value of the sample of that name whose labels include `labels`.
#[track_caller]
pub(crate) fn value(families: &[Family], name: &str, labels: &[(&str, &str)]) -> f64 {
    let found = find(families, name, labels);
    assert_eq!(found.len(), 1, "samples of {name} with {labels:?}");
    found[0]
}

/// The values of all samples of that name whose labels include `labels`.
#[track_caller]
pub(crate) fn find(families: &[Family], name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
    let family = families.iter().find(|family| family.name == name);
    let family = family.unwrap_or_else(|| panic!("no metric {name}"));
    let matches = |have: &BTreeMap<String, String>| {
        labels.iter().all(|(label, value)| have.get(*label).is_some_and(|have| have == value))
    };
    family.samples.iter().filter(|(have, _)| matches(have)).map(|(_, value)| *value).collect()
}

fn is_name(name: &str, colons: bool) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || colons && byte == b':';
    name.bytes().next().is_some_and(letter)
        && name.bytes().all(|byte| letter(byte) || byte.is_ascii_digit())
}

fn sample(line: &str, name: &str) -> (BTreeMap<String, String>, f64) {
    let rest = line.strip_prefix(name).unwrap_or_else(|| panic!("a sample of {name}: {line}"));
    let mut labels = BTreeMap::new();
    let rest = match rest.strip_prefix('{') {
        None => rest,
        Some(mut rest) => loop {
            let (label, quoted) = rest.split_once("=\"").expect("label and value");
            assert!(is_name(label, false), "a label name: {line}");
            let end = end_of_value(quoted);
            let value = unescape(&quoted[..end], true);
            assert!(labels.insert(label.to_owned(), value).is_none(), "a label twice: {line}");
            rest = &quoted[end + 1..];
            if let Some(after) = rest.strip_prefix('}') {
                break after;
            }
            rest = rest.strip_prefix(',').unwrap_or_else(|| panic!("a comma: {line}"));
        },
    };
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("one blank: {line}"));
    let number = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        digits => {
            assert!(digits.starts_with(|c: char| c.is_ascii_digit() || c == '-'), "{line}");
            digits.parse().unwrap_or_else(|_| panic!("a number: {line}"))
        }
    };
    (labels, number)
}

/// Where the first quotation mark is that no backslash escapes.
fn end_of_value(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    panic!("a value without an end: {text}");
}

fn unescape(text: &str, quoted: bool) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('\\') => plain.push('\\'),
                Some('n') => plain.push('\n'),
                Some('"') if quoted => plain.push('"'),
                other => panic!("\\{other:?} is no escape: {text}"),
            },
            '"' if quoted => panic!("a bare quotation mark: {text}"),
            other => plain.push(other),
        }
    }
    plain
}

#[test]
fn reader_takes_what_is_right() {
    let families = parse("# HELP a_total x\\\\y\n# TYPE a_total counter\na_total{b=\"c\\\"\"} 1\n");
    assert_eq!(families[0].help, "x\\y");
    assert_eq!(value(&families, "a_total", &[("b", "c\"")]), 1.0);
}

#[test]
fn reader_refuses_what_is_wrong() {
    let head = "# HELP a b\n# TYPE a gauge\n";
    for wrong in [
        "a 1\n",
        "# HELP a b\n# TYPE c gauge\n",
        "# HELP a b\n# TYPE a number\n",
        &format!("{head}a 1"),
        &format!("{head}a 1\na 2\n"),
        &format!("{head}a{{}} 1\n"),
        &format!("{head}a{{1=\"x\"}} 1\n"),
        &format!("{head}a{{x=\"\\q\"}} 1\n"),
        &format!("{head}a{{x=\"1\",}} 1\n"),
        &format!("{head}a inf\n"),
        &format!("{head}b 1\n"),
        &format!("{head}{head}"),
    ] {
        assert!(std::panic::catch_unwind(|| parse(wrong)).is_err(), "{wrong:?}");
    }
}
