//! The packet generator: sends marked packets at a rate, and receives them behind what is tested.
//!
//! ```text
//!  Pace ─how many─▶ Traffic ─frames─▶ seal (time) ─▶ port ─▶ ... ─▶ port ─▶ stamp::find ─▶ Report
//! ```
//!
//! One thread does both, over one [`Port`]: a NIC's queue pair, or one end of a cable to a worker in
//! the same process. Each packet carries a [`stamp`]: the receiver knows when it was sent, and which
//! run it is of. The time is that before the burst is given to the device, and is compared with that
//! after the burst came back: what the generator itself does to a packet is outside, what the links
//! do inside. Buffers that come back are sent again, so that the pool is not asked for each packet.
//!
//! Every packet is accounted for: `sent = received + refused + lost`, in which `refused` are those
//! that the device had no room for, as a NIC's receive ring would have had none.

pub mod pace;
pub mod sizes;
pub mod stamp;
pub mod traffic;

use std::time::Duration;

use anyhow::{Result, ensure};
use arrayvec::ArrayVec;
use dataplane::buffer::Buffer;
use dataplane::clock::Clock;
use dataplane::port::{BURST, Burst, Port};
use serde::Serialize;

use crate::histogram::Histogram;
use pace::Pace;
use stamp::{Place, Stamp};
use traffic::{Mix, Traffic, Unsealed};

/// Buffers kept for the next packets.
const MOST_SPARE: usize = 8 * BURST;
/// A round that took so long is one in which the generator did not look: nanoseconds.
const AWAY: u64 = 10_000;

/// How a run goes.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Packets a second; `None`: as fast as the device takes them, and none is refused.
    pub rate: Option<u64>,
    /// How long packets are sent.
    pub time: Duration,
    /// Of packets that are due and not sent, so many are caught up with; others are skipped.
    pub most_owed: u64,
    /// Packets sent at most.
    pub most_packets: u64,
    /// After the last was sent, those on their way are waited for as long as one comes in this time.
    pub patience: Duration,
}

impl Run {
    /// How long a link takes that is up.
    pub const PATIENCE: Duration = Duration::from_millis(200);
}

/// What a run found out.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Seconds in which packets were sent.
    pub seconds: f64,
    /// Packets given to the device, those included that it refused.
    pub sent: u64,
    /// Bytes of them, without check sequences.
    pub sent_bytes: u64,
    /// Packets that the device had no room for.
    pub refused: u64,
    /// Packets that were due while the generator was away, and never made.
    pub skipped: u64,
    /// Packets that came back.
    pub received: u64,
    /// Bytes of them.
    pub received_bytes: u64,
    /// Of them, those that came back before one sent earlier.
    pub reordered: u64,
    /// Packets received that are not of this run.
    pub others: u64,
    /// Packets not made as there was no buffer.
    pub no_buffer: u64,
    /// From sending to receiving, nanoseconds.
    pub latency: Histogram,
    /// Rounds of the generator that took longer than 10 us: it was not there to send and receive.
    pub away: u64,
    /// The longest, nanoseconds.
    pub longest_away: u64,
}

/// The figures of a [`Report`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Millions of packets sent a second.
    pub sent_mpps: f64,
    /// Millions of packets received for each second of sending.
    pub received_mpps: f64,
    /// Packets sent.
    pub sent: u64,
    /// Packets received.
    pub received: u64,
    /// Packets that the device had no room for.
    pub refused: u64,
    /// Packets sent and neither refused nor received.
    pub lost: u64,
    /// Packets that were due, and not made.
    pub skipped: u64,
    /// Packets received before one sent earlier.
    pub reordered: u64,
    /// Packets received that were not the run's.
    pub others: u64,
    /// Half took no longer, nanoseconds.
    pub p50_ns: u64,
    /// 90 in a hundred took no longer.
    pub p90_ns: u64,
    /// 99 in a hundred.
    pub p99_ns: u64,
    /// 999 in a thousand.
    pub p999_ns: u64,
    /// The slowest.
    pub max_ns: u64,
    /// Rounds in which the generator was away for more than 10 us.
    pub away: u64,
    /// The longest of them, nanoseconds.
    pub longest_away_ns: u64,
}

impl Report {
    /// Packets sent and neither refused nor received.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.refused + self.received)
    }

    /// The run in figures.
    pub fn figures(&self) -> Figures {
        let mpps = |packets: u64| packets as f64 / self.seconds.max(1e-9) / 1e6;
        Figures {
            sent_mpps: mpps(self.sent),
            received_mpps: mpps(self.received),
            sent: self.sent,
            received: self.received,
            refused: self.refused,
            lost: self.lost(),
            skipped: self.skipped,
            reordered: self.reordered,
            others: self.others,
            p50_ns: self.latency.quantile(500_000),
            p90_ns: self.latency.quantile(900_000),
            p99_ns: self.latency.quantile(990_000),
            p999_ns: self.latency.quantile(999_000),
            max_ns: self.latency.max(),
            away: self.away,
            longest_away_ns: self.longest_away,
        }
    }
}

/// A generator; see the module.
pub struct Generator<P: Port> {
    // Before the port, whose pool they return to.
    ready: Burst<P::Buffer>,
    received: Burst<P::Buffer>,
    spare: Vec<P::Buffer>,
    port: P,
    unsealed: ArrayVec<Unsealed, BURST>,
    traffic: Traffic,
    clock: Clock,
    tag: u16,
    /// Where the last packet had its mark.
    place: Place,
}

/// One run under way.
struct Progress {
    report: Report,
    /// The sequence of the next packet, and the one that is to come in next if none is missing.
    sequence: u32,
    expected: u32,
    /// When the port was looked at last.
    looked: u64,
}

impl<P: Port> Generator<P> {
    /// A generator of `mix` over `port`.
    ///
    /// # Errors
    /// When the mix cannot be made; see [`Traffic::new`].
    pub fn new(port: P, mix: &Mix, clock: Clock) -> Result<Self> {
        let longest = mix.sizes.sizes().iter().copied().max().unwrap_or_default();
        let length = usize::from(longest - sizes::CHECK_SEQUENCE);
        ensure!(
            length <= port.longest_frame(),
            "frames of {longest} bytes on a device that takes {} (a larger MTU?)",
            port.longest_frame() + usize::from(sizes::CHECK_SEQUENCE)
        );
        Ok(Self {
            ready: Burst::new(),
            received: Burst::new(),
            spare: Vec::with_capacity(MOST_SPARE),
            port,
            unsealed: ArrayVec::new(),
            traffic: Traffic::new(mix)?,
            clock,
            tag: 0,
            place: Place::default(),
        })
    }

    /// From now on other packets, over the same port.
    ///
    /// # Errors
    /// As [`Self::new`]'s.
    pub fn set_mix(&mut self, mix: &Mix) -> Result<()> {
        self.traffic = Traffic::new(mix)?;
        Ok(())
    }

    /// The port.
    pub fn port_mut(&mut self) -> &mut P {
        &mut self.port
    }

    /// Sends and receives as `run` says. Between two rounds `beside` is called with the time in
    /// nanoseconds and what there is so far; the run ends early when it returns `false`.
    pub fn run(&mut self, run: &Run, mut beside: impl FnMut(u64, &Report) -> bool) -> Report {
        self.tag = self.tag.wrapping_add(1);
        self.ready.clear();
        self.unsealed.clear();
        let start = self.clock.now();
        let end = start.saturating_add(run.time.as_nanos() as u64);
        let mut pace = run.rate.map(|rate| Pace::new(rate, start, run.most_owed.max(1)));
        let report = Report::default();
        let mut progress = Progress { report, sequence: 0, expected: 0, looked: start };
        let mut now = start;
        while now < end && progress.report.sent < run.most_packets && beside(now, &progress.report)
        {
            now = self.clock.now();
            let left = run.most_packets - progress.report.sent;
            match &mut pace {
                Some(pace) => {
                    let due = pace.take(now, left.min(BURST as u64));
                    if due > 0 {
                        self.send(due as usize, &mut progress);
                        self.take_back(&mut progress);
                    }
                }
                None => self.send_all_there_is_room_for(left, &mut progress),
            }
            self.receive(&mut progress);
        }
        progress.report.seconds = (now - start) as f64 / 1e9;
        progress.report.skipped = pace.map_or(0, |pace| pace.skipped());
        self.wait_for_stragglers(&mut progress, run.patience, beside);
        progress.report
    }

    /// Makes packets until `count` are ready, and transmits them.
    #[inline]
    fn send(&mut self, count: usize, progress: &mut Progress) {
        while self.ready.len() < count {
            let Some(mut buffer) = self.spare.pop().or_else(|| self.port.allocate()) else {
                progress.report.no_buffer += 1;
                break;
            };
            match self.traffic.make(&mut buffer, self.tag, progress.sequence) {
                Some(unsealed) => {
                    progress.sequence = progress.sequence.wrapping_add(1);
                    self.unsealed.push(unsealed);
                    self.ready.push(buffer);
                }
                None => progress.report.no_buffer += 1,
            }
        }
        let time = self.clock.now() as u32;
        let mut bytes = 0;
        for (buffer, unsealed) in self.ready.iter_mut().zip(&self.unsealed) {
            let data = buffer.data_mut();
            bytes += data.len() as u64;
            traffic::seal(data, unsealed, time);
        }
        let count = self.ready.len();
        self.port.transmit(&mut self.ready);
        progress.report.sent += (count - self.ready.len()) as u64;
        let refused: usize = self.ready.iter().map(|buffer| buffer.data().len()).sum();
        progress.report.sent_bytes += bytes - refused as u64;
    }

    /// What the device refused counts as sent and is not sent again.
    fn take_back(&mut self, progress: &mut Progress) {
        self.unsealed.clear();
        progress.report.sent += self.ready.len() as u64;
        progress.report.refused += self.ready.len() as u64;
        for mut buffer in self.ready.drain(..) {
            progress.report.sent_bytes += buffer.data().len() as u64;
            buffer.truncate(0);
            if self.spare.len() < MOST_SPARE {
                self.spare.push(buffer);
            }
        }
    }

    /// What the device refused is kept, and sent first, with another time, when there is room.
    fn send_all_there_is_room_for(&mut self, left: u64, progress: &mut Progress) {
        self.send(left.min(BURST as u64) as usize, progress);
        let sent = self.unsealed.len() - self.ready.len();
        self.unsealed.drain(..sent);
    }

    #[inline]
    fn receive(&mut self, progress: &mut Progress) {
        self.port.receive(&mut self.received);
        let now = self.clock.now();
        let report = &mut progress.report;
        let round = now - progress.looked;
        progress.looked = now;
        if round > AWAY {
            report.away += 1;
            report.longest_away = report.longest_away.max(round);
        }
        // Marks come from another core's cache: all are asked for before the first is looked at.
        let touched = self.received.iter().fold(0, |sum, buffer| {
            sum ^ buffer.data().get(self.place.start).copied().unwrap_or_default()
        });
        std::hint::black_box(touched);
        for mut buffer in self.received.drain(..) {
            let data = buffer.data();
            let is_ours = |stamp: &Stamp| stamp.tag == self.tag;
            let mut found = stamp::read(data, self.place).filter(is_ours);
            if found.is_none()
                && let Some(place) = stamp::place(data)
            {
                self.place = place;
                found = stamp::read(data, place).filter(is_ours);
            }
            let Some(stamp) = found else {
                report.others += 1;
                continue;
            };
            report.received += 1;
            report.received_bytes += data.len() as u64;
            report.latency.record((now as u32).wrapping_sub(stamp.time).into());
            let ahead = stamp.sequence.wrapping_sub(progress.expected);
            if ahead < 1 << 31 {
                progress.expected = stamp.sequence.wrapping_add(1);
            } else {
                report.reordered += 1;
            }
            // The buffer as it was before headers were put in front.
            if self.spare.len() < MOST_SPARE
                && !buffer.is_segmented()
                && buffer.replace_front(stamp.wrapped, 0)
            {
                buffer.truncate(0);
                self.spare.push(buffer);
            }
        }
    }

    fn wait_for_stragglers(
        &mut self,
        progress: &mut Progress,
        patience: Duration,
        mut beside: impl FnMut(u64, &Report) -> bool,
    ) {
        // What was never taken is not sent.
        self.take_back_unsent();
        let mut last = self.clock.now();
        while progress.report.lost() > 0 {
            let before = progress.report.received;
            self.receive(progress);
            let now = self.clock.now();
            if progress.report.received > before {
                last = now;
            }
            if now - last > patience.as_nanos() as u64 || !beside(now, &progress.report) {
                return;
            }
        }
    }

    fn take_back_unsent(&mut self) {
        self.unsealed.clear();
        for mut buffer in self.ready.drain(..) {
            buffer.truncate(0);
            if self.spare.len() < MOST_SPARE {
                self.spare.push(buffer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use dataplane::buffer::Frame;

    use super::*;
    use crate::flows::{VIP_PORT, VIPS};
    use crate::generator::sizes::SizeMix;
    use crate::generator::traffic::{Destinations, Families, Protocols};

    /// What is sent comes back, but for packets that are lost or have no room.
    #[derive(Default)]
    struct Loop {
        frames: VecDeque<Frame>,
        room: usize,
        sent: u64,
        allocated: u64,
        /// Of so many packets one is lost; 0: none.
        lose: u64,
        /// Packets come back last first.
        turned: bool,
        /// Put before what comes back.
        outer: Vec<u8>,
    }

    impl Port for Loop {
        type Buffer = Frame;

        fn receive(&mut self, burst: &mut Burst<Frame>) {
            while !burst.is_full() {
                let next =
                    if self.turned { self.frames.pop_back() } else { self.frames.pop_front() };
                let Some(mut frame) = next else { return };
                if !self.outer.is_empty() {
                    let length = 14 + self.outer.len();
                    assert!(frame.replace_front(14, length));
                    frame.data_mut()[14..length].copy_from_slice(&self.outer);
                }
                burst.push(frame);
            }
        }

        fn transmit(&mut self, burst: &mut Burst<Frame>) {
            let room = self.room.saturating_sub(self.frames.len()).min(burst.len());
            for frame in burst.drain(..room) {
                self.sent += 1;
                if self.lose == 0 || !self.sent.is_multiple_of(self.lose) {
                    self.frames.push_back(frame);
                }
            }
        }

        fn allocate(&mut self) -> Option<Frame> {
            self.allocated += 1;
            Some(Frame::new(&[]))
        }
    }

    const MANY: Run = Run {
        rate: None,
        time: Duration::from_secs(600),
        most_owed: 1,
        most_packets: 1000,
        patience: Duration::ZERO,
    };

    fn mix() -> Mix {
        Mix {
            families: Families::V4,
            protocols: Protocols::Tcp,
            flows: 10,
            syn_share: 0.0,
            sizes: SizeMix::parse("64").unwrap(),
            destinations: Destinations::vips(VIPS, VIP_PORT),
            to: [2; 6],
            from: [4; 6],
        }
    }

    fn generator(port: Loop) -> Generator<Loop> {
        Generator::new(port, &mix(), Clock::new()).unwrap()
    }

    /// Sent, received, refused, lost, reordered, others.
    fn counts(report: &Report) -> [u64; 6] {
        let Report { sent, received, refused, reordered, others, .. } = *report;
        [sent, received, refused, report.lost(), reordered, others]
    }

    #[test]
    fn buffers_go_round_and_headers_put_in_front_are_taken_off() {
        let mut outer = vec![0; 20];
        (outer[0], outer[9]) = (0x45, 4);
        let mut generator = generator(Loop { room: 64, outer, ..Loop::default() });
        // More rounds than any headroom has room for headers.
        for _ in 0..20 {
            let report = generator.run(&MANY, |_, _| true);
            assert_eq!(counts(&report), [1000, 1000, 0, 0, 0, 0]);
            assert_eq!((report.sent_bytes, report.received_bytes), (60_000, 80_000));
        }
        assert_eq!(generator.port_mut().allocated, 64);
    }

    #[test]
    fn what_does_not_come_back_is_lost() {
        let mut generator = generator(Loop { room: 64, lose: 10, ..Loop::default() });
        let report = generator.run(&MANY, |_, _| true);
        assert_eq!(counts(&report), [1000, 900, 0, 100, 0, 0]);
        assert_eq!(report.latency.count(), 900);
    }

    #[test]
    fn what_the_device_has_no_room_for_waits_or_is_refused() {
        let mut generator = generator(Loop { room: 10, ..Loop::default() });
        let report = generator.run(&MANY, |_, _| true);
        assert_eq!(counts(&report), [1000, 1000, 0, 0, 0, 0]);
        // At a rate a packet is due when it is due. The first burst waits for 64 packets.
        let paced = Run { rate: Some(500_000_000), most_owed: 64, ..MANY };
        let report = generator.run(&paced, |_, _| true);
        let [sent, received, refused, lost, ..] = counts(&report);
        assert_eq!((sent, lost, received + refused), (1000, 0, sent));
        assert_eq!(report.sent_bytes, 60_000);
    }

    #[test]
    fn packets_of_a_run_before_and_those_out_of_turn_are_told_apart() {
        let mut generator = generator(Loop { room: 4096, turned: true, ..Loop::default() });
        let report = generator.run(&MANY, |_, _| true);
        let [sent, received, .., reordered, others] = counts(&report);
        // Of each burst that was turned round all but the first.
        assert_eq!(
            [sent, received, reordered, others],
            [1000, 1000, 1000 - 1000u64.div_ceil(64), 0]
        );
        // Three that the run before has left behind.
        let late: Vec<Frame> = {
            let port = generator.port_mut();
            port.turned = false;
            port.lose = 1;
            let mut traffic = Traffic::new(&mix()).unwrap();
            let frame = |sequence| {
                let mut frame = Frame::new(&[]);
                let unsealed = traffic.make(&mut frame, 1, sequence).unwrap();
                traffic::seal(frame.data_mut(), &unsealed, 0);
                frame
            };
            (0..3).map(frame).collect()
        };
        generator.port_mut().frames.extend(late);
        let report = generator.run(&MANY, |_, _| true);
        assert_eq!(counts(&report), [1000, 0, 0, 1000, 0, 3]);
    }
}
