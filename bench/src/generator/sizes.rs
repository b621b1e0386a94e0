//! Sizes of frames: one, or several in proportions.
//!
//! Sizes are counted as in RFC 2544: from the destination address to the frame check sequence,
//! whose 4 bytes the device adds, so that 64 is the shortest frame of Ethernet. A mix is dealt out
//! by smooth weighted round robin: after each cycle of all weights every size has come exactly as
//! often as its weight says, and within one the sizes are spread.

use anyhow::{Result, bail, ensure};

/// The shortest frame.
pub const SHORTEST: u16 = 64;
/// The longest: IP packets of 9,000 bytes.
pub const LONGEST: u16 = 9018;
/// Bytes of the frame check sequence.
pub const CHECK_SEQUENCE: u16 = 4;
/// Frames in a cycle, at most.
const LONGEST_CYCLE: u64 = 10_000;

/// The simple Internet mix: of 12 IP packets 7 have 40 bytes, 4 have 576, and 1 has 1,500 (Agilent,
/// Journal of Internet Test Methodologies, 2007), which are frames of 64, 594 and 1,518.
pub const IMIX: &str = "64:7,594:4,1518:1";

/// Which size comes next, for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeMix {
    sizes: Vec<u16>,
    /// Places in `sizes`, in the order of one cycle.
    cycle: Vec<u8>,
}

impl SizeMix {
    /// A size (`64`), sizes with weights (`64:7,1518:1`; without one it is 1), or `imix`.
    ///
    /// # Errors
    /// What is wrong, and what is expected.
    pub fn parse(text: &str) -> Result<Self> {
        let list = if text == "imix" { IMIX } else { text };
        let mut sizes = Vec::new();
        let mut weights = Vec::new();
        for part in list.split(',') {
            let (size, weight) = part.split_once(':').unwrap_or((part, "1"));
            let (Ok(size), Ok(weight)) = (size.parse(), weight.parse::<u64>()) else {
                bail!("\"{part}\" is no size (expected bytes, or bytes:weight, or \"imix\")");
            };
            ensure!(
                (SHORTEST..=LONGEST).contains(&size),
                "a size of {size} (expected {SHORTEST} to {LONGEST}, with the 4 bytes of the check)"
            );
            ensure!(weight > 0, "\"{part}\": a weight of 0 (expected 1 or more)");
            sizes.push(size);
            weights.push(weight);
        }
        ensure!(sizes.len() <= 256, "{} sizes (expected 256 at most)", sizes.len());
        let divisor = weights.iter().copied().fold(0, greatest_common_divisor);
        weights.iter_mut().for_each(|weight| *weight /= divisor);
        let total = weights.iter().fold(0u64, |sum, weight| sum.saturating_add(*weight));
        ensure!(
            total <= LONGEST_CYCLE,
            "weights that add up to {total} (expected {LONGEST_CYCLE} at most, without their \
             common divisor)"
        );
        Ok(Self { sizes, cycle: cycle(&weights, total) })
    }

    /// The sizes, in the order in which they were given.
    pub fn sizes(&self) -> &[u16] {
        &self.sizes
    }

    /// Which of them packet `number` of each cycle has; the cycle.
    pub fn cycle(&self) -> &[u8] {
        &self.cycle
    }

    /// Bytes of a frame on average, with its check sequence.
    pub fn mean(&self) -> f64 {
        let sum: u64 = self.cycle.iter().map(|place| u64::from(self.size(*place))).sum();
        sum as f64 / self.cycle.len() as f64
    }

    fn size(&self, place: u8) -> u16 {
        self.sizes.get(usize::from(place)).copied().unwrap_or(SHORTEST)
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Each time every one gains its weight; who has most is next, and pays the total.
fn cycle(weights: &[u64], total: u64) -> Vec<u8> {
    let mut credit = vec![0i64; weights.len()];
    (0..total)
        .map(|_| {
            credit.iter_mut().zip(weights).for_each(|(credit, weight)| *credit += *weight as i64);
            // The first of equals.
            let next = (0..credit.len()).rev().max_by_key(|place| credit[*place]).unwrap_or(0);
            credit[next] -= total as i64;
            next as u8
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(mix: &SizeMix) -> Vec<usize> {
        let of = |place| mix.cycle().iter().filter(|each| usize::from(**each) == place).count();
        (0..mix.sizes().len()).map(of).collect()
    }

    #[test]
    fn a_cycle_has_each_size_as_often_as_its_weight_says() {
        for (text, sizes, weights) in [
            ("64", vec![64], vec![1]),
            ("imix", vec![64, 594, 1518], vec![7, 4, 1]),
            ("64:700,594:400,1518:100", vec![64, 594, 1518], vec![7, 4, 1]),
            ("128,256,9018", vec![128, 256, 9018], vec![1, 1, 1]),
            ("64:9999,65:1", vec![64, 65], vec![9999, 1]),
        ] {
            let mix = SizeMix::parse(text).unwrap();
            assert_eq!(mix.sizes(), sizes, "{text}");
            assert_eq!(counts(&mix), weights, "{text}");
        }
    }

    #[test]
    fn sizes_are_spread_over_the_cycle() {
        let mix = SizeMix::parse("imix").unwrap();
        // Never more than two short ones in a row, nor two of the others.
        let twice: Vec<u8> = mix.cycle().iter().chain(mix.cycle()).copied().collect();
        assert!(twice.windows(3).all(|three| three != [0, 0, 0]), "{twice:?}");
        assert!(twice.windows(2).all(|two| two[0] == 0 || two[0] != two[1]), "{twice:?}");
        let mean = (7.0 * 64.0 + 4.0 * 594.0 + 1518.0) / 12.0;
        assert!((mix.mean() - mean).abs() < 1e-9);
    }

    #[test]
    fn what_is_no_mix_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "\"\" is no size"),
            ("64:", "\"64:\" is no size"),
            ("big", "\"big\" is no size"),
            ("63", "a size of 63"),
            ("64,9019", "a size of 9019"),
            ("64:0", "a weight of 0"),
            ("64:10000,65:1", "weights that add up to 10001"),
            ("64:18446744073709551615,65:1", "weights that add up to"),
        ] {
            let said = SizeMix::parse(text).unwrap_err().to_string();
            assert!(said.contains(reason), "{text}: {said}");
        }
    }
}
