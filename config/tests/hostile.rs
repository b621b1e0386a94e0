//! No text may make the reader panic, hang, or answer with anything but lines that point
//! into the file. Mutations start from the examples, so that most of them get past the
//! syntax and into validation.

use config::{CheckerConfig, Config, Configuration, ControllerConfig, Errors, Problem};
use proptest::prelude::*;
use proptest::sample::Index;
use std::path::Path;
use std::time::{Duration, Instant};

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").join(name);
    std::fs::read_to_string(path).expect("an example file")
}

/// Reads `text` as the file of each program; checks that errors, if any, are well-formed. Whether
/// it is one of a program.
fn survive(text: &str) -> bool {
    judge(text, Config::parse(text, "f").map(|loaded| loaded.warnings));
    judge(text, ControllerConfig::parse(text, "f").map(|loaded| loaded.warnings));
    judge(text, CheckerConfig::parse(text, "f").map(|loaded| loaded.warnings));
    judge(text, Configuration::parse(text, "f").map(|loaded| loaded.warnings))
}

fn judge(text: &str, read: Result<Vec<Problem>, Errors>) -> bool {
    let lines = text.bytes().filter(|&byte| byte == b'\n').count() + 1;
    let (problems, accepted) = match read {
        Ok(warnings) => (warnings, true),
        Err(errors) => {
            assert!(!errors.problems.is_empty(), "an error says why");
            assert_eq!(errors.to_string().lines().count(), errors.problems.len());
            (errors.problems, false)
        }
    };
    for problem in problems {
        let line = problem.line.expect("a problem of a text has a line");
        assert!((1..=lines).contains(&line), "line {line} of {lines}: {problem}");
        assert!(!problem.message.contains(char::is_control), "{problem:?}");
        assert_ne!(problem.message, "is not a valid configuration", "an unreported refusal");
    }
    accepted
}

/// Words, strings, comments, blanks and single marks.
fn tokens(text: &str) -> Vec<String> {
    let class = |c: char| match c {
        c if c.is_alphanumeric() || c == '_' || c == '.' || c == ':' => 0,
        ' ' => 1,
        _ => 2,
    };
    let mut tokens: Vec<String> = Vec::new();
    let mut last = 2;
    for character in text.chars() {
        let this = class(character);
        match tokens.last_mut() {
            Some(token) if this == last && this != 2 => token.push(character),
            _ => tokens.push(character.to_string()),
        }
        last = this;
    }
    tokens
}

#[derive(Clone, Debug)]
enum Mutation {
    Delete(Index),
    Duplicate(Index),
    Swap(Index, Index),
    Replace(Index, String),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    // Values that are right in one place and wrong in most.
    let words = [
        "0",
        "1",
        "-1",
        "65536",
        "65537",
        "99999999999999999999",
        "1e999",
        "nan",
        "true",
        "\"\"",
        "[]",
        "{}",
        "[[",
        "]]",
        "\"any\"",
        "\"80-90\"",
        "\"192.0.2.2\"",
        "\"192.0.2.2/24\"",
        "\"0.0.0.0/0\"",
        "\"::/0\"",
        "\"2001:db8::1\"",
        "\"ff:ff:ff:ff:ff:ff\"",
        "\"\\u0000\"",
        "\"\u{202e}\"",
        "\"\"\"",
        "'",
        "0xffff",
        "2024-01-01",
        "\u{feff}",
        "\r",
        "\t",
        "\n",
        "=",
        "node",
        "port",
        "pool",
        "vip",
        "backend",
        "controller",
        "access",
        "registry",
        "checker",
        "\"http://127.0.0.1:1\"",
        "\"https://[::]:0\"",
    ];
    let word =
        prop_oneof![proptest::sample::select(words.to_vec()).prop_map(str::to_owned), "\\PC{0,8}",];
    prop_oneof![
        any::<Index>().prop_map(Mutation::Delete),
        any::<Index>().prop_map(Mutation::Duplicate),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Mutation::Swap(a, b)),
        (any::<Index>(), word).prop_map(|(at, word)| Mutation::Replace(at, word)),
    ]
}

fn mutate(tokens: &mut Vec<String>, mutations: &[Mutation]) {
    for mutation in mutations {
        let count = tokens.len();
        if count == 0 {
            return;
        }
        match mutation {
            Mutation::Delete(at) => drop(tokens.remove(at.index(count))),
            Mutation::Duplicate(at) => {
                let token = tokens[at.index(count)].clone();
                tokens.insert(at.index(count), token);
            }
            Mutation::Swap(a, b) => tokens.swap(a.index(count), b.index(count)),
            Mutation::Replace(at, word) => tokens[at.index(count)].clone_from(word),
        }
    }
}

/// The example without comments, which would swallow most mutations.
fn bare(name: &str) -> String {
    let lines = example(name);
    let lines = lines.lines().map(|line| line.split('#').next().unwrap_or(line).trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn mutated_examples_never_panic(
        name in proptest::sample::select(vec![
            "weir.toml",
            "hardware.toml",
            "node-controller.toml",
            "controller-etcd.toml",
            "checker.toml",
        ]),
        mutations in prop::collection::vec(mutation(), 1..6),
    ) {
        let mut tokens = tokens(&bare(name));
        mutate(&mut tokens, &mutations);
        survive(&tokens.concat());
    }

    #[test]
    fn swapped_lines_never_panic(
        swaps in prop::collection::vec((any::<Index>(), any::<Index>()), 1..8),
    ) {
        let text = bare("hardware.toml");
        let mut lines: Vec<_> = text.lines().collect();
        for (a, b) in swaps {
            let count = lines.len();
            lines.swap(a.index(count), b.index(count));
        }
        survive(&lines.join("\n"));
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        survive(&text);
    }

    #[test]
    fn arbitrary_values_never_panic(
        key in "[a-z_]{1,12}",
        section in proptest::sample::select(vec![
            "[node]",
            "[dpdk]",
            "[[port]]",
            "[[vip]]",
            "[controller]",
            "[registry]",
            "[[access]]",
            "[[command]]",
        ]),
        value in "[-+0-9a-fx.:\"'\\[\\]{},=_T ]{0,24}",
    ) {
        survive(&format!("{section}\n{key} = {value}\n"));
    }
}

#[test]
fn every_prefix_of_an_example_is_read_without_panic() {
    let text = example("weir.toml");
    let ends = text.char_indices().map(|(end, _)| end);
    let accepted = ends.filter(|&end| survive(&text[..end])).count();
    assert!(accepted > 0 && survive(&text));
}

#[test]
fn every_token_can_be_missing() {
    for name in ["hardware.toml", "controller-etcd.toml", "checker.toml"] {
        let tokens = tokens(&bare(name));
        for index in 0..tokens.len() {
            let mut fewer = tokens.clone();
            fewer.remove(index);
            survive(&fewer.concat());
        }
    }
}

#[test]
fn deep_nesting_is_refused() {
    assert!(!survive(&format!("node = {}", "[".repeat(100_000))));
    assert!(!survive(&format!("node = {}1{}", "[".repeat(100_000), "]".repeat(100_000))));
    assert!(!survive(&format!("{}x = 1", "node.".repeat(100_000))));
    assert!(!survive(&format!("[{}x]", "node.".repeat(100_000))));
}

#[test]
fn twenty_thousand_vips_are_validated_quickly() {
    let mut text = bare("weir.toml");
    for index in 0..20_000 {
        let (third, fourth) = (index / 250 % 250, index % 250 + 1);
        let (second, port) = (index / 62_500 + 18, index % 7 * 100 + 1);
        text.push_str(&format!(
            "\n[[vip]]\naddress = \"198.{second}.{third}.{fourth}\"\nport = \"{port}-{}\"\n\
             protocol = \"tcp\"\npool = \"web\"\n",
            port + 50
        ));
    }
    // All in one group of ranges, too.
    for index in 0..20_000u32 {
        let first = 1 + index * 3;
        text.push_str(&format!(
            "\n[[vip]]\naddress = \"203.0.113.9\"\nport = \"{first}-{}\"\nprotocol = \"udp\"\n\
             pool = \"web\"\n",
            first + 1
        ));
    }
    let start = Instant::now();
    let loaded = Config::parse(&text, "f").unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.config.vips.len(), 40_001);
    // Unoptimised, on a busy machine, it takes about a second; quadratic work takes minutes.
    assert!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
}

#[test]
fn twenty_thousand_vips_that_tie_are_reported_quickly() {
    let vip = "\n[[vip]]\naddress = \"203.0.113.9\"\nport = \"1-9\"\nprotocol = \"udp\"\npool = \"web\"\n";
    let text = bare("weir.toml") + &vip.repeat(20_000);
    let start = Instant::now();
    let errors = Config::parse(&text, "f").expect_err("ties");
    assert_eq!(errors.problems.len(), 19_999);
    assert!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
}

#[test]
fn wrong_names_by_the_thousand_are_reported_quickly() {
    let mut text = bare("weir.toml");
    for index in 0..5_000 {
        text.push_str(&format!(
            "\n[[pool]]\nid = \"pool-{index}\"\n\n[[vip]]\naddress = \"198.18.{}.{}\"\nport = 80\n\
             protocol = \"tcp\"\npool = \"poll-{index}\"\n",
            index / 250,
            index % 250 + 1
        ));
    }
    let start = Instant::now();
    let errors = Config::parse(&text, "f").expect_err("unknown pools");
    assert_eq!(errors.problems.len(), 5_000);
    assert!(errors.problems[0].message.ends_with("nearest is \"pool-0\")"));
    assert!(!survive(&format!("{} = 1\n", "k".repeat(10_000_000))));
    assert!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let directory = std::env::temp_dir().join(format!("weir-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory for the test");
    let file = directory.join("weir.toml");
    let shown = |path: &Path| Config::load(path).expect_err("a bad file").to_string();

    let missing = shown(&file);
    assert!(missing.starts_with(&format!("{}: cannot be read: No such file", file.display())));
    assert!(shown(&directory).contains(": cannot be read: "), "{}", shown(&directory));
    std::fs::write(&file, b"[node]\nname = \"\xff\"\n").expect("a file for the test");
    let expected = format!("{}:2: holds bytes that are not UTF-8 (expected text)", file.display());
    assert_eq!(shown(&file), expected);
    std::fs::remove_dir_all(&directory).expect("the test's own directory");
    if Path::new("/dev/zero").exists() {
        assert_eq!(shown(Path::new("/dev/zero")), "/dev/zero: is longer than 64 MiB");
    }
}
