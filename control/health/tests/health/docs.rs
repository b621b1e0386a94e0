//! `docs/health.md` against the program: the table of defaults, and the worst cases.

use health::Settings;
use health::debounce::DebounceSettings;
use health::drain::DrainSettings;
use health::lifecycle::State;
use health::outlier::OutlierSettings;
use health::panic::PanicSettings;
use health::quorum::QuorumSettings;
use health::slow_start::SlowStartSettings;
use health::thresholds::ProbeSettings;

pub(crate) const PAGE: &str = include_str!("../../../../docs/health.md");

/// Every setting with its default. Taken apart without `..`, so that a new one does not compile
/// until it is here, and does not pass until it is on the page.
fn defaults() -> Vec<(String, u64)> {
    let Settings { probe, quorum, drain, debounce, slow_start, panic, outlier } =
        Settings::default();
    let mut rows = Vec::new();
    let mut group = |name: &str, fields: &[(&str, u64)]| {
        rows.extend(fields.iter().map(|(field, value)| (format!("{name}.{field}"), *value)));
    };
    macro_rules! fields {
        ($name:literal, $type:ident { $($field:ident),* }, $value:expr) => {{
            let $type { $($field),* } = $value;
            group($name, &[$((stringify!($field), $field as u64)),*]);
        }};
    }
    fields!(
        "probe",
        ProbeSettings { interval_ms, jitter_percent, timeout_ms, failures_down, passes_up },
        probe
    );
    fields!("quorum", QuorumSettings { checkers, needed, stale_ms }, quorum);
    fields!("drain", DrainSettings { window_ms, settle_ms, takeover_ms }, drain);
    fields!("debounce", DebounceSettings { falls, window_ms, hold_ms, max_hold_ms }, debounce);
    fields!("slow_start", SlowStartSettings { duration_ms, steps, first_percent }, slow_start);
    fields!("panic", PanicSettings { enter_percent, leave_percent, settle_ms }, panic);
    fields!(
        "outlier",
        OutlierSettings {
            max_percent,
            interval_ms,
            min_flows,
            min_members,
            margin_permille,
            spread,
            intervals,
            eject_ms,
            max_eject_ms
        },
        outlier
    );
    rows
}

#[test]
fn the_table_of_defaults_is_that_of_the_program() {
    let (_, table) = PAGE.split_once("| Setting | Default | Meaning |\n").expect("a table");
    let rows: Vec<(String, u64)> = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let name = cells.next().expect("a name").trim_matches('`').to_owned();
            let value = cells.next().expect("a default").parse().expect("a number");
            assert!(cells.next().is_some_and(|meaning| meaning.len() > 10), "{line}");
            (name, value)
        })
        .collect();
    assert_eq!(rows, defaults());
}

#[test]
fn every_state_has_its_row() {
    for state in State::ALL {
        assert!(PAGE.contains(&format!("\n| `{state}` | ")), "{state}");
    }
}

#[test]
fn the_arithmetic_of_the_worst_case() {
    let probe = ProbeSettings::default();
    let verdict = probe.slowest_verdict_ms();
    let on_the_way = 150;
    for (refusing, ms) in
        [(true, verdict - probe.timeout_ms + on_the_way), (false, verdict + on_the_way)]
    {
        let written = format!("**{}.{:02} s**", ms / 1_000, ms % 1_000 / 10);
        assert!(PAGE.contains(&written), "refusing {refusing}: {written}");
    }
}
