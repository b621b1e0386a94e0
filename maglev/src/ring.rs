//! A consistent hash ring: Karger et al., "Consistent Hashing and Random Trees", STOC 1997.
//!
//! Each member has points on a ring of 2^64, in proportion to its weight, at keyed hashes of its
//! id and the point's number. A flow belongs to the first point at or after its hash, round the
//! end. When a member goes, exactly its own flows move; the price is balance: with V points, a
//! share is off by about 1 / sqrt(V) (5 % at 400), where Maglev keeps to a slot. Ring is for pools
//! where a move costs more than a skew.
//!
//! The number of a member's points is its weight times a scale: the power of 4 that gives the
//! heaviest member from 128 to 512 points. So a weight of 100 at the top means 400 points, a
//! weight of 1 means 256. All others keep their points when a member comes, goes or changes its
//! weight, as long as the heaviest weight stays on its side of 2, 8, 32, 128, 512 and so on; when
//! it crosses, points become fewer or more and part of all flows moves.
//!
//! Invariant: points are sorted, and as many as owners; none when nobody is eligible. A ring is
//! never edited: the next generation is a new value.

use core::fmt;
use core::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::digest::Digest;
use crate::error::Error;
use crate::member::{Member, Roster};
use crate::scheduler::{Scheduler, Share};

/// The most points a ring can have; they take 12 bytes each.
pub const MAX_POINTS: usize = 1 << 23;

/// A finished ring.
#[derive(Clone, PartialEq)]
pub struct Ring {
    /// Sorted. Apart from the owners, so that a search touches nothing else.
    points: Box<[u64]>,
    /// The backend index at each point.
    owners: Box<[u32]>,
    shares: Box<[Share]>,
    digest: Digest,
}

impl Ring {
    /// Builds the ring. The order of `members` does not matter; with no members, or only zero
    /// weights, the ring is empty and picks nobody. Each weight above 0 has at least one point.
    ///
    /// # Errors
    /// [`Error::TooManyPoints`], [`Error::DuplicateId`], [`Error::DuplicateIndex`].
    pub fn build(members: &[Member<'_>], secret: [u8; 16]) -> Result<Ring, Error> {
        let roster = Roster::new(members)?;
        let members = roster.members();
        let scale = Scale::new(members.iter().map(|member| member.weight).max().unwrap_or(0));
        let counts: Vec<u32> = members.iter().map(|member| scale.points(member.weight)).collect();
        let total = counts.iter().map(|&count| count as usize).sum();
        if total > MAX_POINTS {
            return Err(Error::TooManyPoints);
        }
        let mut ring: Vec<(u64, u32)> = Vec::with_capacity(total);
        for ((owner, member), &count) in (0u32..).zip(members).zip(&counts) {
            ring.extend((0..count).map(|number| (point(secret, member.id, number), owner)));
        }
        // Should two points meet, the lesser id has it.
        ring.sort_unstable();
        let digest = Digest::of_ring(members, &counts, &ring);
        let arcs = arcs(&ring, members.len());
        let shares = members.iter().zip(counts).zip(arcs).map(|((member, slots), arc)| Share {
            index: member.index,
            weight: member.weight,
            slots,
            fraction: arc as f64 / TURN as f64,
        });
        Ok(Ring {
            points: ring.iter().map(|&(point, _)| point).collect(),
            owners: ring.iter().map(|&(_, owner)| members[owner as usize].index).collect(),
            shares: shares.collect(),
            digest,
        })
    }

    /// The backend index for a flow hash; `None` when nobody is eligible.
    #[inline]
    pub fn pick(&self, flow_hash: u64) -> Option<u32> {
        let at = self.points.partition_point(|&point| point < flow_hash);
        self.owners.get(at).or(self.owners.first()).copied()
    }
}

impl Scheduler for Ring {
    #[inline]
    fn pick(&self, flow_hash: u64) -> Option<u32> {
        self.pick(flow_hash)
    }

    fn len(&self) -> usize {
        self.points.len()
    }

    fn shares(&self) -> &[Share] {
        &self.shares
    }

    fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl fmt::Debug for Ring {
    /// Without the points: there are many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("points", &self.points.len())
            .field("members", &self.shares.len())
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// All of the ring.
const TURN: u128 = 1 << 64;

/// Hashes that end at each member's points: a point's arc reaches back to the point before it.
fn arcs(ring: &[(u64, u32)], members: usize) -> Vec<u128> {
    let mut arcs = vec![0; members];
    let Some(&(last, _)) = ring.last() else { return arcs };
    let mut before = u128::from(last);
    let mut wrapped = TURN;
    for &(point, owner) in ring {
        arcs[owner as usize] += u128::from(point) + wrapped - before;
        before = u128::from(point);
        wrapped = 0;
    }
    arcs
}

/// Where point `number` of the member `id` is.
fn point(secret: [u8; 16], id: &str, number: u32) -> u64 {
    let mut hasher = SipHasher24::new_with_key(&secret);
    hasher.write(b"weir ring point\0");
    hasher.write(&number.to_le_bytes());
    hasher.write(id.as_bytes());
    hasher.finish()
}

/// Points per weight: 4 to the power of `up`, or of minus `down`.
#[derive(Clone, Copy)]
struct Scale {
    up: u32,
    down: u32,
}

impl Scale {
    const MOST: u64 = 512;

    fn new(heaviest: u32) -> Scale {
        let mut scale = Scale { up: 0, down: 0 };
        let mut points = u64::from(heaviest.max(1));
        while points * 4 <= Scale::MOST {
            points *= 4;
            scale.up += 1;
        }
        while u64::from(heaviest) > Scale::MOST << (2 * scale.down) {
            scale.down += 1;
        }
        scale
    }

    /// To the nearest, and at least one for a weight above 0.
    fn points(self, weight: u32) -> u32 {
        let doubled = (u64::from(weight) << (2 * self.up + 1)) >> (2 * self.down);
        let points = doubled.div_ceil(2);
        (points as u32).max(u32::from(weight > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_member_has_from_128_to_512_points() {
        for heaviest in (1..2000).chain([65_535, 65_536, u32::MAX / 2, u32::MAX]) {
            let points = Scale::new(heaviest).points(heaviest);
            assert!((128..=512).contains(&points), "{heaviest}: {points}");
        }
        assert_eq!(Scale::new(100).points(100), 400);
        assert_eq!(Scale::new(1).points(1), 256);
    }

    #[test]
    fn points_are_in_proportion_to_the_nearest() {
        let scale = Scale::new(1000);
        assert_eq!(scale.points(1000), 250);
        assert_eq!(scale.points(500), 125);
        assert_eq!(scale.points(10), 3);
        assert_eq!(scale.points(1), 1);
        assert_eq!(scale.points(0), 0);
        assert_eq!(Scale::new(u32::MAX).points(1), 1);
    }

    #[test]
    fn a_flow_belongs_to_the_first_point_at_or_after_it_round_the_end() {
        let ring = Ring {
            points: [10, 20, 20, 30].into(),
            owners: [1, 2, 3, 4].into(),
            shares: [].into(),
            digest: Digest::of_ring(&[], &[], &[]),
        };
        let picks = [0, 10, 11, 20, 21, 30, 31, u64::MAX].map(|hash| ring.pick(hash));
        assert_eq!(picks, [1, 1, 2, 2, 4, 4, 1, 1].map(Some));
    }

    #[test]
    fn arcs_add_up_to_the_whole_ring() {
        assert_eq!(arcs(&[(10, 0)], 1), [TURN]);
        assert_eq!(arcs(&[(10, 0), (10, 1)], 2), [TURN, 0]);
        assert_eq!(arcs(&[(10, 1), (30, 0)], 2), [20, TURN - 20]);
        assert_eq!(arcs(&[], 1), [0]);
    }
}
