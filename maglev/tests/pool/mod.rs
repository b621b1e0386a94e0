//! Pools to build tables from; shared by the tests of this crate.

#![expect(dead_code, reason = "each test program uses some of these")]

use maglev::{Maglev, Member, Ring};

/// The secret that tests share; its value is part of the golden digests.
pub(crate) const SECRET: [u8; 16] = *b"0123456789abcdef";

/// Backends by id and weight; an index is a position.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    /// Id and weight of each.
    pub(crate) backends: Vec<(String, u32)>,
}

impl Pool {
    /// `count` backends `host-0`, `host-1` and so on, each with the weight that `weight` says.
    pub(crate) fn new(count: u32, weight: impl Fn(u32) -> u32) -> Pool {
        Pool { backends: (0..count).map(|i| (format!("host-{i}"), weight(i))).collect() }
    }

    /// As [`Pool::new`], with these weights.
    pub(crate) fn of(weights: &[u32]) -> Pool {
        Pool::new(weights.len() as u32, |i| weights[i as usize])
    }

    /// The same without one backend. Indices of later ones shift: compare ids.
    pub(crate) fn without(&self, gone: usize) -> Pool {
        let mut pool = self.clone();
        pool.backends.remove(gone);
        pool
    }

    /// The same with another weight for one backend.
    pub(crate) fn reweighted(&self, at: usize, weight: u32) -> Pool {
        let mut pool = self.clone();
        pool.backends[at].1 = weight;
        pool
    }

    pub(crate) fn members(&self) -> Vec<Member<'_>> {
        (0u32..)
            .zip(&self.backends)
            .map(|(index, (id, weight))| Member { id, index, weight: *weight })
            .collect()
    }

    pub(crate) fn table(&self, size: u32) -> Maglev {
        Maglev::build(&self.members(), size, SECRET).expect("the pool is valid")
    }

    pub(crate) fn ring(&self) -> Ring {
        Ring::build(&self.members(), SECRET).expect("the pool is valid")
    }

    /// The id in each slot.
    pub(crate) fn owners(&self, size: u32) -> Vec<&str> {
        let table = self.table(size);
        table.slots().iter().map(|&index| self.backends[index as usize].0.as_str()).collect()
    }

    pub(crate) fn total_weight(&self) -> u64 {
        self.backends.iter().map(|(_, weight)| u64::from(*weight)).sum()
    }
}

/// A number that looks random and is the same at every run (SplitMix64).
pub(crate) fn scramble(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
