//! Backends die and come back in a fleet of full size; then things that must not eject anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use proto::v1;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::{Instant as Tick, sleep, sleep_until, timeout};

use super::assembly::{Fleet, Places, PoolPlan, Size, address, healthy, say, until};
use super::backends::Death;
use super::figures::Distribution;
use super::metrics::load;
use super::observer::{Applied, Wanted};
use super::operator::Member;

const POOL: &str = "web";
/// Its backends have a readiness probe.
const SHARED: &str = "app";
const SHARED_BACKENDS: usize = 40;
/// Backends that die, half of them either way.
const DEATHS: usize = 100;
/// From death to death, and from recovery to recovery.
const SPACING: Duration = Duration::from_millis(250);
/// The longest that an ejection or recovery is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// A checker says nothing for so long; reports are forgotten after 15 s.
const CUT_OFF: Duration = Duration::from_secs(25);
/// What is quiet is watched for so long.
const QUIET: Duration = Duration::from_secs(10);
/// The bound of F4 (SPEC section 1) on the 99th percentile.
const BOUND_MS: f64 = 5000.0;

/// What came out.
#[derive(Debug, Serialize)]
struct Report {
    ejected_p50_ms: f64,
    ejected_p99_ms: f64,
    ejected_max_ms: f64,
    recovered_p50_ms: f64,
    recovered_p99_ms: f64,
    recovered_max_ms: f64,
    deaths: usize,
    backends: usize,
    nodes: usize,
    checkers: usize,
    /// Living backends that any node gave no new flows, while others died and came back.
    false_ejections_under_deaths: usize,
    /// The same, while one checker was stopped, and after it went on.
    false_ejections_checker_stopped: usize,
    panic: Panic,
    distributions: BTreeMap<String, Distribution>,
    load_before: f64,
    load_after: f64,
}

/// Every readiness probe of a pool answers 503.
#[derive(Debug, Serialize)]
struct Panic {
    backends: usize,
    /// From the first 503 until the controller served the pool as if all were ready.
    entered_ms: f64,
    /// The fewest backends that a node gave new flows on the way there.
    fewest_before: usize,
    /// And from then on, while all answered 503.
    fewest_in_panic: usize,
    evicted: usize,
    unhealthy: usize,
    /// From the first 200 until all were served as ready ones again.
    left_ms: f64,
}

/// Puts up the fleet, lets backends die, prints a table; returns the report as JSON, and whether
/// all bounds hold.
///
/// # Errors
/// When the fleet does not come up, or something that is waited for does not happen in half a
/// minute.
pub async fn run(places: &Places, size: &Size) -> Result<(serde_json::Value, bool)> {
    let load_before = load();
    if size.backends < 2 * DEATHS {
        bail!("{} backends: too few for {DEATHS} deaths (expected twice as many)", size.backends);
    }
    let web = |number: usize, port: u16| -> Result<Member> {
        let id = format!("backend-{number:04}");
        Ok(Member { id, address: address(0, number)?, port, readiness: false })
    };
    let app = |number: usize, port: u16| -> Result<Member> {
        let id = format!("app-{number:02}");
        Ok(Member { id, address: address(1, number)?, port, readiness: true })
    };
    let all = (0..size.backends).map(|n| address(0, n));
    let all = all.chain((0..SHARED_BACKENDS).map(|n| address(1, n)));
    let all = all.collect::<Result<Vec<Ipv4Addr>>>()?;
    let pools = |port: u16| {
        let plan =
            |id, last, members| PoolPlan { id, vip: Ipv4Addr::new(203, 0, 113, last), members };
        let members = (0..size.backends).map(|n| web(n, port)).collect::<Result<_>>()?;
        let shared = (0..SHARED_BACKENDS).map(|n| app(n, port)).collect::<Result<_>>()?;
        Ok(vec![plan(POOL, 1, members), plan(SHARED, 2, shared)])
    };
    let mut fleet = Fleet::start(places, size, pools, &all).await?;
    let members: Vec<Member> = (0..size.backends).map(|n| web(n, 0)).collect::<Result<_>>()?;
    for member in &members {
        fleet.observer.lives(&member.id, true);
    }
    fleet.observer.take_wronged();

    let victims: Vec<(Member, Death)> = members
        .iter()
        .step_by(size.backends / DEATHS)
        .take(DEATHS)
        .cloned()
        .zip([Death::Refusing, Death::Swallowing].into_iter().cycle())
        .collect();
    say(&format!("{DEATHS} backends die, one each {} ms", SPACING.as_millis()));
    let ejected = die(&mut fleet, &victims).await?;
    sleep(Duration::from_secs(2)).await;
    say("they come back");
    let recovered = come_back(&mut fleet, &victims).await?;
    let under_deaths = fleet.observer.take_wronged();
    fleet.agrees(&[POOL, SHARED]).await?;

    sleep(Duration::from_secs(2)).await;
    let stopped = stop_a_checker(&fleet).await?;
    let panic = nobody_is_ready(&fleet).await?;

    let either = |times: &[(Death, Duration)], death: Option<Death>| {
        let own = times.iter().filter(|(how, _)| death.is_none_or(|death| *how == death));
        Distribution::of(own.map(|(_, time)| *time))
    };
    let distributions = BTreeMap::from([
        ("ejected: all".to_owned(), either(&ejected, None)),
        ("ejected: refusing".to_owned(), either(&ejected, Some(Death::Refusing))),
        ("ejected: black-holed".to_owned(), either(&ejected, Some(Death::Swallowing))),
        ("recovered: all".to_owned(), either(&recovered, None)),
        ("recovered: refusing".to_owned(), either(&recovered, Some(Death::Refusing))),
        ("recovered: black-holed".to_owned(), either(&recovered, Some(Death::Swallowing))),
    ]);
    let (out, back) = (either(&ejected, None), either(&recovered, None));
    let report = Report {
        ejected_p50_ms: out.p50_ms,
        ejected_p99_ms: out.p99_ms,
        ejected_max_ms: out.max_ms,
        recovered_p50_ms: back.p50_ms,
        recovered_p99_ms: back.p99_ms,
        recovered_max_ms: back.max_ms,
        deaths: ejected.len(),
        backends: size.backends,
        nodes: size.nodes,
        checkers: size.checkers,
        false_ejections_under_deaths: under_deaths.len(),
        false_ejections_checker_stopped: stopped.len(),
        panic,
        distributions,
        load_before,
        load_after: load(),
    };
    print(&report);
    let holds = report.holds();
    Ok((serde_json::to_value(&report)?, holds))
}

impl Report {
    fn holds(&self) -> bool {
        self.ejected_p99_ms <= BOUND_MS
            && self.recovered_p99_ms <= BOUND_MS
            && self.false_ejections_under_deaths == 0
            && self.false_ejections_checker_stopped == 0
            && self.panic.fewest_in_panic == self.panic.backends
            && self.panic.evicted == 0
            && self.panic.unhealthy == 0
    }
}

/// A death or recovery on its way to the nodes.
struct Pending {
    member: String,
    death: Death,
    since: Instant,
    told: oneshot::Receiver<Applied>,
}

/// How long each took until the last node had published it.
async fn times(pending: Vec<Pending>) -> Result<Vec<(Death, Duration)>> {
    let mut times = Vec::with_capacity(pending.len());
    for Pending { member, death, since, told } in pending {
        let applied = timeout(PATIENCE, told).await;
        let applied = applied.with_context(|| format!("{member}: nothing in {PATIENCE:?}"))??;
        times.push((death, applied.published.saturating_duration_since(since)));
    }
    Ok(times)
}

async fn die(fleet: &mut Fleet, victims: &[(Member, Death)]) -> Result<Vec<(Death, Duration)>> {
    let mut pending = Vec::with_capacity(victims.len());
    let mut next = Tick::now();
    for (member, death) in victims {
        sleep_until(next).await;
        next += SPACING;
        fleet.observer.lives(&member.id, false);
        let told = fleet.observer.expect(&member.id, Wanted::Out);
        let since = Instant::now();
        fleet.backends.kill(member.address, *death).await?;
        pending.push(Pending { member: member.id.clone(), death: *death, since, told });
    }
    times(pending).await
}

async fn come_back(
    fleet: &mut Fleet,
    victims: &[(Member, Death)],
) -> Result<Vec<(Death, Duration)>> {
    let mut pending = Vec::with_capacity(victims.len());
    let mut next = Tick::now();
    for (member, death) in victims {
        sleep_until(next).await;
        next += SPACING;
        let told = fleet.observer.expect(&member.id, Wanted::Eligible);
        let since = Instant::now();
        fleet.backends.revive(member.address)?;
        pending.push(Pending { member: member.id.clone(), death: *death, since, told });
    }
    let times = times(pending).await?;
    for (member, _) in victims {
        fleet.observer.lives(&member.id, true);
    }
    Ok(times)
}

/// Living backends that any node gave no new flows meanwhile.
async fn stop_a_checker(fleet: &Fleet) -> Result<BTreeSet<String>> {
    say(&format!("one checker is stopped for {} s", CUT_OFF.as_secs()));
    let checker = fleet.processes.checkers.first().context("no checker")?;
    checker.pause()?;
    sleep(CUT_OFF).await;
    checker.resume()?;
    say("it goes on");
    sleep(QUIET).await;
    Ok(fleet.observer.take_wronged())
}

/// What all share fails: every readiness probe answers 503.
async fn nobody_is_ready(fleet: &Fleet) -> Result<Panic> {
    say(&format!("{SHARED_BACKENDS} readiness probes answer 503"));
    let panics = async |wanted: bool| -> Result<bool> {
        let pool = fleet.operator.pool(SHARED).await?;
        let served = fleet.observer.eligible(SHARED).iter().all(|n| *n == SHARED_BACKENDS);
        Ok(pool.panicking == wanted && served && (wanted || healthy(&pool) == SHARED_BACKENDS))
    };
    fleet.observer.take_fewest(SHARED);
    fleet.backends.set_ready(false);
    let since = Instant::now();
    until("the pool to be served in panic", async || panics(true).await).await?;
    let entered = since.elapsed();
    // Until all of them have been found not ready.
    sleep(Duration::from_secs(5)).await;
    let fewest_before = fleet.observer.take_fewest(SHARED).unwrap_or(SHARED_BACKENDS);
    sleep(QUIET).await;
    let fewest_in_panic = fleet.observer.take_fewest(SHARED);
    let now = fleet.observer.eligible(SHARED).into_iter().min().unwrap_or(0);
    let pool = fleet.operator.pool(SHARED).await?;
    let count = |state: v1::BackendState| {
        pool.backends.iter().filter(|backend| backend.state == i32::from(state)).count()
    };
    let (evicted, unhealthy) =
        (count(v1::BackendState::Evicted), count(v1::BackendState::Unhealthy));
    say("they answer 200 again");
    fleet.backends.set_ready(true);
    let since = Instant::now();
    until("the panic to end", async || panics(false).await).await?;
    let ms = |time: Duration| (time.as_secs_f64() * 1000.0).round();
    Ok(Panic {
        backends: SHARED_BACKENDS,
        entered_ms: ms(entered),
        fewest_before,
        fewest_in_panic: fewest_in_panic.unwrap_or(now).min(now),
        evicted,
        unhealthy,
        left_ms: ms(since.elapsed()),
    })
}

fn print(report: &Report) {
    let Report { backends, nodes, checkers, deaths, panic, .. } = report;
    println!(
        "{backends} backends, {nodes} nodes, {checkers} checkers, {deaths} deaths; load {} \
         before and {} after\n",
        report.load_before, report.load_after
    );
    println!("{}", Distribution::head("until the last node had it"));
    for (what, distribution) in &report.distributions {
        println!("{}", distribution.line(what));
    }
    println!(
        "\nfalse ejections: {} while others died and came back, {} while a checker was stopped \
         for {} s",
        report.false_ejections_under_deaths,
        report.false_ejections_checker_stopped,
        CUT_OFF.as_secs()
    );
    println!(
        "all {} readiness probes 503: served as if all were ready after {} ms (at least {} \
         served until then), {} served in panic, {} UNHEALTHY, {} EVICTED; over {} ms after \
         the first 200",
        panic.backends,
        panic.entered_ms,
        panic.fewest_before,
        panic.fewest_in_panic,
        panic.unhealthy,
        panic.evicted,
        panic.left_ms
    );
    println!(
        "\np99: {} ms until ejected, {} ms until back (bound {BOUND_MS} ms)",
        report.ejected_p99_ms, report.recovered_p99_ms
    );
}
