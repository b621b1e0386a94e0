//! Where a packet's cycles go: the stages of the worker's round, timed in the running path.
//!
//! A [`StageClock`] reads the time stamp counter where a stage ends, so that each tick of the round
//! belongs to exactly one stage. A stage takes a whole burst: nine readings for 64 packets. Slices of
//! time in which all stages are read alternate with slices in which only the round is, once: the
//! first kind says where the time goes, the second how long it is without the readings. What a
//! reading costs is measured at the start, on the worker, and taken off each stage.
//!
//! A CPU works on several hundred instructions at a time, beyond a reading: what a stage leaves
//! unfinished (loads that it does not wait for, above all) is paid in the next one. The sum does not
//! suffer.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use dataplane::clock::Clock;
use dataplane::counters::Counter;
use dataplane::worker::{Meter, Stage};
use serde::{Deserialize, Serialize};

use crate::machine;
use crate::sampled::{DISTANCE, Sampled};
use crate::scenario::Case;
use crate::verify;
use crate::weir::{self, Reading, Running};

/// How long one slice takes.
const SLICE: Duration = Duration::from_millis(200);
/// Between two slices: nothing is counted.
const PAUSE: Duration = Duration::from_millis(10);
/// What takes longer was no stage: the kernel or the host had the core.
const AWAY_NS: u64 = 50_000;
/// Readings by which the cost of one is measured.
const CALIBRATION: u32 = 20_000;

const STAGES: usize = Stage::ALL.len();

/// What a [`StageClock`] has measured so far; written by its worker alone.
#[derive(Debug, Default)]
struct Ticks {
    /// Whether stages are read, or rounds.
    each: AtomicBool,
    /// Of each stage: ticks, and how often it ended.
    stages: [(Counter, Counter); STAGES],
    /// Of all rounds: likewise.
    rounds: (Counter, Counter),
    /// What one reading costs, in 1/1000 of a tick.
    reading: Counter,
}

/// The meter of a worker: a reading of the counter where a stage ends.
#[derive(Debug)]
struct StageClock {
    clock: Clock,
    last: u64,
    /// More ticks than this belong to no stage.
    away: u64,
    ticks: Arc<Ticks>,
}

impl StageClock {
    /// A clock that writes to `ticks`.
    fn new(clock: Clock, ticks: Arc<Ticks>) -> Self {
        let away = (AWAY_NS as f64 * machine::tsc_mhz(&clock) / 1e3) as u64;
        Self { last: clock.ticks(), away, clock, ticks }
    }

    /// Measures what one reading costs: the smallest of some averages, as interruptions only add.
    fn calibrate(&mut self) {
        self.ticks.each.store(true, Ordering::Relaxed);
        let tries = (0..20).map(|_| {
            let start = self.clock.ticks();
            (0..CALIBRATION).for_each(|_| self.passed(Stage::Rest));
            self.clock.ticks().wrapping_sub(start) * 1000 / u64::from(CALIBRATION)
        });
        let least = tries.min().unwrap_or(0);
        self.ticks.reading.set(least);
        self.ticks.each.store(false, Ordering::Relaxed);
    }

    #[inline(always)]
    fn read(&mut self, account: impl Fn(&Ticks) -> &(Counter, Counter)) {
        let now = self.clock.ticks();
        let passed = now.wrapping_sub(self.last);
        self.last = now;
        let (ticks, times) = account(&self.ticks);
        times.add(1);
        if passed < self.away {
            ticks.add(passed);
        }
    }
}

impl Meter for StageClock {
    #[inline(always)]
    fn passed(&mut self, stage: Stage) {
        if self.ticks.each.load(Ordering::Relaxed) {
            self.read(|ticks| &ticks.stages[stage as usize]);
        } else if stage == Stage::Reap {
            self.read(|ticks| &ticks.rounds);
        }
    }
}

/// What one run found out: a value for each slice of time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Slices {
    /// Of each stage in the order of [`Stage::ALL`]: nanoseconds a packet, readings taken off.
    pub stages: Vec<Vec<f64>>,
    /// Nanoseconds a packet of the whole round, when only rounds were read.
    pub whole: Vec<f64>,
    /// What one reading costs, in nanoseconds.
    pub reading: f64,
    /// Packets of a burst, over the whole run.
    pub burst: f64,
    /// Packets compared byte by byte, all right.
    pub samples: usize,
}

/// Measures `case` over `source` for `seconds`, half of it with the stages read.
///
/// # Errors
/// As [`weir::run`].
pub fn run(source: &Path, case: Case, seconds: f64) -> Result<Slices> {
    let ticks = Arc::new(Ticks::default());
    let pairs = (seconds / (2.0 * SLICE.as_secs_f64())).ceil().max(1.0) as usize;
    let (found, samples, node) = weir::on_a_metered_node(
        source,
        case,
        |queue, _| Sampled::new(queue, DISTANCE),
        |clock| {
            let mut meter = StageClock::new(clock, Arc::clone(&ticks));
            meter.calibrate();
            meter
        },
        |port, _| port.samples().to_vec(),
        |running| {
            running.warm_up(case)?;
            measure(running, &ticks, pairs)
        },
    )?;
    ensure!(!samples.is_empty(), "no packet was sampled: measure for longer");
    verify::check(&samples, source, &node, case)?;
    Ok(Slices { samples: samples.len(), ..found })
}

/// The ticks of the stages, or of the rounds, at one moment.
struct Moment {
    at: Reading,
    stages: [(u64, u64); STAGES],
    rounds: (u64, u64),
}

impl Moment {
    fn now(running: &Running<'_>, ticks: &Ticks) -> Self {
        let of = |(ticks, times): &(Counter, Counter)| (ticks.get(), times.get());
        let stages = std::array::from_fn(|stage| of(&ticks.stages[stage]));
        Self { at: running.reading(), stages, rounds: of(&ticks.rounds) }
    }
}

fn measure(running: &mut Running<'_>, ticks: &Ticks, pairs: usize) -> Result<Slices> {
    let clock = Clock::new();
    let nanoseconds = |ticks: f64| ticks * 1e3 / machine::tsc_mhz(&clock);
    let reading = ticks.reading.get() as f64 / 1e3;
    // Ticks a packet, without the readings.
    let cost = |before: (u64, u64), after: (u64, u64), packets: u64| {
        let (passed, times) = ((after.0 - before.0) as f64, (after.1 - before.1) as f64);
        nanoseconds(passed - times * reading) / packets.max(1) as f64
    };
    let mut found = Slices { stages: vec![Vec::new(); STAGES], ..Slices::default() };
    let (mut packets, mut rounds) = (0, 0);
    for _ in 0..pairs {
        let (before, after) = slice(running, ticks, true);
        let forwarded = after.at.packets - before.at.packets;
        for (place, values) in found.stages.iter_mut().enumerate() {
            values.push(cost(before.stages[place], after.stages[place], forwarded));
        }
        let (before, after) = slice(running, ticks, false);
        let forwarded = after.at.packets - before.at.packets;
        found.whole.push(cost(before.rounds, after.rounds, forwarded));
        packets += forwarded;
        rounds += after.rounds.1 - before.rounds.1;
        ensure!(forwarded > 0, "no packet was forwarded in {SLICE:?}");
    }
    found.reading = nanoseconds(reading);
    found.burst = packets as f64 / rounds.max(1) as f64;
    Ok(found)
}

fn slice(running: &mut Running<'_>, ticks: &Ticks, each: bool) -> (Moment, Moment) {
    ticks.each.store(each, Ordering::Relaxed);
    running.step_for(PAUSE);
    let before = Moment::now(running, ticks);
    running.step_for(SLICE);
    (before, Moment::now(running, ticks))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use config::Config;
    use conntrack::Table;
    use control::node::{Node, PortFacts};
    use dataplane::buffer::Frame;
    use dataplane::port::memory::MemoryPort;
    use dataplane::wire::MacAddress;
    use dataplane::worker::{Worker, WorkerOptions};

    use super::*;
    use crate::flows::{Ip, flow};
    use crate::frame::{self, Kind};
    use crate::scenario;

    #[test]
    fn every_tick_belongs_to_one_stage() {
        let ticks = Arc::new(Ticks::default());
        let mut meter = StageClock::new(Clock::new(), Arc::clone(&ticks));
        meter.away = u64::MAX;
        ticks.each.store(true, Ordering::Relaxed);
        let first = meter.last;
        for _ in 0..100 {
            Stage::ALL.into_iter().for_each(|stage| meter.passed(stage));
        }
        let sum: u64 = ticks.stages.iter().map(|(ticks, _)| ticks.get()).sum();
        assert_eq!(sum, meter.last.wrapping_sub(first));
        assert!(ticks.stages.iter().all(|(_, times)| times.get() == 100));
        assert_eq!(ticks.rounds.1.get(), 0);

        ticks.each.store(false, Ordering::Relaxed);
        let first = meter.last;
        Stage::ALL.into_iter().for_each(|stage| meter.passed(stage));
        let (rounds, times) = &ticks.rounds;
        assert_eq!((rounds.get(), times.get()), (meter.last.wrapping_sub(first), 1));
    }

    #[test]
    fn what_takes_too_long_was_no_stage() {
        let ticks = Arc::new(Ticks::default());
        let mut meter = StageClock::new(Clock::new(), Arc::clone(&ticks));
        meter.away = 0;
        ticks.each.store(true, Ordering::Relaxed);
        meter.passed(Stage::Parse);
        let (passed, times) = &ticks.stages[Stage::Parse as usize];
        assert_eq!((passed.get(), times.get()), (0, 1));
    }

    struct Told(Sender<Stage>);

    impl Meter for Told {
        fn passed(&mut self, stage: Stage) {
            self.0.send(stage).unwrap();
        }
    }

    #[test]
    fn a_worker_tells_every_stage_of_a_burst_in_order() {
        let case = Case::named("hit_4k").unwrap();
        let text = scenario::configuration(Path::new("/tmp/source.pcap"), case);
        let config = Config::parse(&text, "bench").unwrap().config;
        let facts = PortFacts { mac: MacAddress(scenario::NODE_MAC), any_mac: false };
        let mut node = Node::new(config, &[facts], 0).unwrap();
        let parts = node.add_worker();
        let mut port = MemoryPort::new();
        let (to, from) = (scenario::NODE_MAC, scenario::ROUTER_MAC);
        port.push(Frame::new(&frame::frame(&flow(Ip::V4, 7), 7, Kind::Ack, to, from)));
        let (teller, told) = channel();
        let options = WorkerOptions {
            ports: vec![port],
            reader: parts.reader,
            conntrack: Table::new(1024).unwrap(),
            hash_seed: weir::HASH_SEED,
            number: 0,
            workers: 1,
            link: parts.handle.link,
            counters: parts.handle.counters,
        };
        let mut worker = Worker::metered(options, Told(teller));
        assert_eq!(worker.poll(1_000_000), 1);
        let told_of = || told.try_iter().filter(|stage| *stage != Stage::Rest).collect::<Vec<_>>();
        let mut stages = told_of();
        // The burst itself is transmitted before what else waits to be.
        stages.dedup();
        assert_eq!(
            stages,
            Stage::ALL.into_iter().filter(|stage| *stage != Stage::Rest).collect::<Vec<_>>()
        );

        // Without packets there is less to tell.
        assert_eq!(worker.poll(1_000_000), 0);
        assert_eq!(told_of(), [Stage::Receive, Stage::Transmit, Stage::Reap]);
    }
}
