//! How long a death goes unnoticed: real thresholds, real quorum, simulated probes.
//!
//! Each checker probes every 1 s plus 0 to 20 %, in a phase of its own. A refusing backend fails
//! a probe in a millisecond, a black-holed one after the whole timeout. A report takes up to
//! 50 ms to the controller, which ticks every 100 ms. `--nocapture` prints the distributions.

use crate::docs::PAGE;
use crate::lab::fleet;
use health::lifecycle::State;
use health::thresholds::{CheckerView, Outcome};
use health::{Id, PoolHealth, Report, Row, Settings};

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Death {
    Refuses,
    BlackHole,
}

struct Prober {
    checker: Id,
    backend: usize,
    view: CheckerView,
    next_start: u64,
    /// The probe under way: when its outcome is known, and which it is.
    probe: Option<(u64, Outcome)>,
    /// Reports on their way: when they arrive.
    sent: Vec<(u64, Report)>,
}

/// What is wrong with one of the three checkers of backend 0, all the while.
#[derive(Clone, Copy, PartialEq)]
enum Checkers {
    AllWell,
    /// It reaches no backend, and says so of all that it probes.
    OneCutOff,
    /// The controller does not hear it.
    OneSilent,
}

/// Backend 0 of five dies and comes back. Returns when it left the table and when it was in it
/// again, in milliseconds after either, and how often any backend changed.
fn run(death: Death, checkers: Checkers, random: &mut Random) -> (u64, u64, usize) {
    let settings = Settings::default();
    let probe = settings.probe.clone();
    let mut pool = PoolHealth::new(settings, random.below(u64::MAX), 0).expect("valid");
    pool.set_fleet(fleet());
    for i in 0..5 {
        let row = Row { weight: 100, state: State::Healthy, ready: true, drain_left_ms: 0 };
        pool.restore(&format!("b{i}"), row, 0);
    }
    let mut probers = Vec::new();
    for checker in fleet() {
        for backend in pool.probes_of(&checker.id) {
            probers.push(Prober {
                checker: checker.id.clone(),
                backend: backend[1..].parse().expect("a number"),
                view: CheckerView::new(false),
                next_start: random.below(1_000),
                probe: None,
                sent: Vec::new(),
            });
        }
    }
    let mut theirs = probers.iter().filter(|p| p.backend == 0);
    let bad_one = theirs.nth(random.below(3) as usize).expect("three checkers").checker.clone();
    let died = 8_000 + random.below(1_200);
    let back = died + 8_000 + random.below(1_200);
    let (mut ejected, mut admitted, mut changes) = (None, None, 0);
    for now in 0..back + 8_000 {
        for prober in &mut probers {
            if let Some((_, outcome)) = prober.probe.take_if(|(at, _)| *at == now) {
                prober.view.liveness_probe(&probe, outcome);
                let report = Report {
                    checker: prober.checker.clone(),
                    backend: Id::from(format!("b{}", prober.backend)),
                    liveness: prober.view.liveness().verdict(),
                    readiness: prober.view.readiness(),
                    at: 0,
                };
                prober.sent.push((now + random.below(51), report));
            }
            if prober.next_start == now {
                let dead = prober.backend == 0 && (died..back).contains(&now);
                let blind = checkers == Checkers::OneCutOff && prober.checker == bad_one;
                let (takes, outcome) = match death {
                    _ if blind => (probe.timeout_ms, Outcome::Fail),
                    Death::Refuses if dead => (1, Outcome::Fail),
                    Death::BlackHole if dead => (probe.timeout_ms, Outcome::Fail),
                    _ => (1, Outcome::Pass),
                };
                // An outcome known in the millisecond of the next start is known before it.
                prober.probe = Some((now + takes.min(probe.interval_ms), outcome));
                let jitter = probe.interval_ms * u64::from(probe.jitter_percent) / 100;
                prober.next_start = now + probe.interval_ms + random.below(jitter + 1);
            }
            prober.sent.retain(|(arrives, report)| {
                let heard = checkers != Checkers::OneSilent || report.checker != bad_one;
                if *arrives == now && heard {
                    pool.report(&Report { at: now, ..report.clone() });
                }
                *arrives > now
            });
        }
        if now % 100 == 0 {
            changes += pool.tick(now).transitions.len();
            let in_table = pool.state("b0").is_some_and(State::eligible);
            if now >= died && !in_table {
                ejected.get_or_insert(now - died);
            }
            if now >= back && in_table {
                admitted.get_or_insert(now - back);
            }
        }
    }
    (ejected.expect("ejected"), admitted.expect("admitted"), changes)
}

fn percentile(times: &mut [u64], percent: usize) -> u64 {
    times.sort_unstable();
    times[(times.len() * percent).div_ceil(100) - 1]
}

#[test]
fn every_death_is_seen_within_five_seconds_and_nothing_else_is_ejected() {
    let mut random = Random(7);
    for (name, death, checkers, deaths) in [
        ("refusing", Death::Refuses, Checkers::AllWell, 100),
        ("black-holed", Death::BlackHole, Checkers::AllWell, 100),
        ("refusing, a checker cut off", Death::Refuses, Checkers::OneCutOff, 50),
        ("black-holed, a checker cut off", Death::BlackHole, Checkers::OneCutOff, 50),
        ("refusing, a checker silent", Death::Refuses, Checkers::OneSilent, 50),
        ("black-holed, a checker silent", Death::BlackHole, Checkers::OneSilent, 50),
    ] {
        let (mut down, mut up) = (Vec::new(), Vec::new());
        for _ in 0..deaths {
            let (ejected, admitted, changes) = run(death, checkers, &mut random);
            assert_eq!(changes, 2, "{name}: one death and one return, no false ejection");
            down.push(ejected);
            up.push(admitted);
        }
        let [p50, p99, max] = [50, 99, 100].map(|p| percentile(&mut down, p));
        let [up50, up99, up_max] = [50, 99, 100].map(|p| percentile(&mut up, p));
        let row = format!("| {name} | {p50} | {p99} | {max} | {up50} | {up99} | {up_max} |");
        println!("{row}");
        assert!(PAGE.contains(&row), "docs/health.md has other numbers than: {row}");
        let bound = Settings::default().probe.slowest_verdict_ms() + 50 + 100;
        assert!(max <= bound && bound < 5_000, "{name}: {max} ms");
        assert!(death == Death::BlackHole || max <= bound - 1_000, "{name}: {max} ms");
        assert!(down[0] >= 2_000, "{name}: no sooner than three probes");
        // Two probes, the first of them up to an interval late.
        assert!(up_max <= 2 * 1_200 + 1 + 50 + 100, "{name}: {up_max} ms");
    }
}
