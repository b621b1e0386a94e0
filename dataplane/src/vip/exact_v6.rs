//! IPv6 VIPs of one address, one port and one protocol, which nearly every packet is for: open
//! addressing at a load of at most a half, 32 bytes a slot, one cache line a lookup.

/// See the module. Never written after it is built.
#[derive(Debug)]
pub(super) struct ExactV6 {
    /// A power of two.
    slots: Box<[Slot]>,
    /// Brings the top of a 64-bit hash down to a slot number.
    shift: u32,
}

/// A VIP, or nothing.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(32))]
struct Slot {
    address: [u8; 16],
    /// Port and protocol, and [`TAKEN`]; 0: free.
    port: u32,
    index: u32,
}

/// Port and protocol have 24 bits; a slot that is not free has this one, too.
const TAKEN: u32 = 1 << 31;

impl ExactV6 {
    /// A table of `vips`: address, port and protocol, VIP index.
    pub(super) fn new(vips: &[([u8; 16], u32, u32)]) -> Self {
        let count = (vips.len() * 2).next_power_of_two().max(2);
        let mut slots = vec![Slot::default(); count].into_boxed_slice();
        let shift = 64 - count.trailing_zeros();
        for &(address, port_protocol, index) in vips {
            let port = TAKEN | port_protocol;
            let mut slot = Self::home(address, port, shift);
            while slots[slot].port != 0 {
                slot = (slot + 1) & (count - 1);
            }
            slots[slot] = Slot { address, port, index };
        }
        Self { slots, shift }
    }

    /// The product of both halves, its own two halves added without carry: numbering plans that
    /// count in the network, in the host or in both alike are all spread. VIPs are the operator's,
    /// so nobody can aim at a slot.
    #[inline(always)]
    fn home(address: [u8; 16], port: u32, shift: u32) -> usize {
        // Last octets on top.
        let both = u128::from_le_bytes(address);
        let (network, host) = (both as u64, (both >> 64) as u64);
        // Fractions of the square roots of 3 and 5. The port comes over the octets of the host's
        // half that plans count in least, its first.
        let network = network ^ 0xbb67_ae85_84ca_a73b;
        let host = host ^ u64::from(port) ^ 0x3c6e_f372_fe94_f82b;
        let product = u128::from(network) * u128::from(host);
        ((product as u64 ^ (product >> 64) as u64) >> shift) as usize
    }

    #[inline(always)]
    pub(super) fn find(&self, address: [u8; 16], port_protocol: u32) -> Option<u32> {
        let port = TAKEN | port_protocol;
        let mut slot = Self::home(address, port, self.shift);
        // A free slot ends the search; half of them are free.
        loop {
            let found = self.slots.get(slot & (self.slots.len() - 1))?;
            if found.address == address && found.port == port {
                return Some(found.index);
            }
            if found.port == 0 {
                return None;
            }
            slot += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT_80: u32 = 80 << 8 | 6;

    /// Slots that looking for all of `vips` looks at, which are found.
    fn looked_at(vips: &[([u8; 16], u32, u32)]) -> usize {
        let table = ExactV6::new(vips);
        let mut total = 0;
        for &(octets, port_protocol, index) in vips {
            assert_eq!(table.find(octets, port_protocol), Some(index));
            let home = ExactV6::home(octets, TAKEN | port_protocol, table.shift);
            let at = table
                .slots
                .iter()
                .position(|slot| (slot.address, slot.port) == (octets, TAKEN | port_protocol));
            total += (at.unwrap() + table.slots.len() - home) % table.slots.len() + 1;
        }
        total
    }

    /// Random places would take 1.5 looks each at this load (Knuth, section 6.4, linear probing).
    #[test]
    fn numbering_plans_are_spread() {
        const COUNT: u32 = 1024;
        /// The network and the host of a VIP by its number.
        type Plan = fn(u64) -> (u64, u64);
        let address = |network: u64, host: u64| {
            ((0x2001_0db8_u128 << 96) + (u128::from(network) << 64) + u128::from(host))
                .to_be_bytes()
        };
        let plans: [(&str, Plan); 6] = [
            ("hosts", |n| (0, n + 1)),
            ("networks", |n| (n, 1)),
            ("both alike", |n| (n, n)),
            ("services in the middle", |n| (1, n << 16 | 1)),
            ("the decimals of an IPv4 address", |n| {
                (7, 0x0192_0000_0002_0000 | ((n / 10) << 4) | (n % 10))
            }),
            ("every sixteenth", |n| (n & 15, n << 4)),
        ];
        for (name, plan) in plans {
            let vips: Vec<_> = (0..COUNT)
                .map(|n| {
                    let (network, host) = plan(u64::from(n));
                    (address(network, host), PORT_80, n)
                })
                .collect();
            let looks = looked_at(&vips);
            assert!(looks < 3 * COUNT as usize, "{name}: {looks}");
        }
        let ports: Vec<_> = (0..COUNT).map(|n| (address(1, 1), (n + 1) << 8 | 6, n)).collect();
        let looks = looked_at(&ports);
        assert!(looks < 3 * COUNT as usize, "ports: {looks}");
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let empty = ExactV6::new(&[]);
        assert_eq!(empty.find([0; 16], PORT_80), None);
        let octets = [0x20; 16];
        let one = ExactV6::new(&[(octets, PORT_80, 7)]);
        assert_eq!(one.find(octets, PORT_80), Some(7));
        assert_eq!(one.find(octets, PORT_80 ^ 1 << 8), None);
        assert_eq!(one.find(octets, 80 << 8 | 17), None);
        for byte in 0..16 {
            let mut other = octets;
            other[byte] ^= 1;
            assert_eq!(one.find(other, PORT_80), None);
        }
        // What free slots show.
        assert_eq!(one.find([0; 16], 0), None);
    }
}
