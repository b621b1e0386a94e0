//! Server ids in connection ids, section 5 of draft-ietf-quic-load-balancers-21.
//!
//! Server id and nonce stand one after the other behind the first octet. With a key they are
//! encrypted: 16 octets are one block of AES-128; any other length goes through a Feistel network
//! of four rounds whose round function is AES-128, over two halves that share the middle octet, a
//! nibble each, where their number is odd. Taking the rounds back needs the cipher's forward
//! direction only, and three of the four rounds when the server id lies in the left half.

use aes::Aes128;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use arrayvec::ArrayVec;

use super::{
    Configuration, ConfigurationError, ConnectionId, MAX_CONFIGURATIONS, MAX_ENCODED,
    MAX_SERVER_ID, MIN_NONCE, ServerId,
};

/// Octets of a block of AES.
const BLOCK: usize = 16;
/// Octets of the longest half.
const HALF: usize = MAX_ENCODED.div_ceil(2);

/// One configuration, with its key schedule. `Debug` hides the key.
pub struct Decoder {
    config_id: u8,
    server_id_length: usize,
    /// Octets of server id and nonce together.
    encoded_length: usize,
    self_encoded_length: bool,
    cipher: Option<Aes128>,
}

/// The two sides of the Feistel network, from the left of their arrays.
#[derive(Clone, Copy)]
struct Halves {
    left: [u8; HALF],
    right: [u8; HALF],
}

impl Decoder {
    /// A decoder; the key schedule is made here.
    ///
    /// # Errors
    /// A configuration out of its bounds.
    pub fn new(configuration: &Configuration) -> Result<Self, ConfigurationError> {
        let &Configuration { config_id, server_id_length, nonce_length, key, .. } = configuration;
        if usize::from(config_id) >= MAX_CONFIGURATIONS {
            return Err(ConfigurationError::ConfigId(config_id));
        }
        if !(1..=MAX_SERVER_ID).contains(&usize::from(server_id_length)) {
            return Err(ConfigurationError::ServerIdLength(server_id_length));
        }
        let encoded_length = usize::from(server_id_length) + usize::from(nonce_length);
        if usize::from(nonce_length) < MIN_NONCE || encoded_length > MAX_ENCODED {
            let (nonce, server_id) = (nonce_length, server_id_length);
            return Err(ConfigurationError::NonceLength { nonce, server_id });
        }
        Ok(Self {
            config_id,
            server_id_length: usize::from(server_id_length),
            encoded_length,
            self_encoded_length: configuration.self_encoded_length,
            cipher: key.map(|key| Aes128::new(&key.into())),
        })
    }

    /// The server id in a connection id of this configuration; `None` when it is too short, or
    /// its first octet says another length. Any other id gives some server id.
    pub fn decode(&self, id: ConnectionId<'_>) -> Option<ServerId> {
        let (first, rest) = id.octets().split_first()?;
        let encoded = rest.get(..self.encoded_length)?;
        let said = usize::from(first & 0x1f);
        let fits = match id {
            ConnectionId::Long(_) => said == rest.len(),
            // Its end is not known; it holds what is read.
            ConnectionId::Short(_) => said >= self.encoded_length,
        };
        if self.self_encoded_length && !fits {
            return None;
        }
        let Some(cipher) = &self.cipher else {
            return ServerId::new(encoded.get(..self.server_id_length)?);
        };
        if let Ok(block) = <[u8; BLOCK]>::try_from(encoded) {
            let mut block = block.into();
            cipher.decrypt_block(&mut block);
            return ServerId::new(block.get(..self.server_id_length)?);
        }
        let mut halves = self.split(encoded);
        halves.left = self.round(cipher, 4, halves.right, halves.left, Side::Left);
        halves.right = self.round(cipher, 3, halves.left, halves.right, Side::Right);
        halves.left = self.round(cipher, 2, halves.right, halves.left, Side::Left);
        // Of the middle octet of an odd number the left half has a nibble only.
        if self.server_id_length > self.encoded_length / 2 {
            halves.right = self.round(cipher, 1, halves.left, halves.right, Side::Right);
        }
        ServerId::new(self.join(&halves).get(..self.server_id_length)?)
    }

    /// The connection id that a server of this configuration makes: what [`Self::decode`] takes
    /// back. The first octet gives the length. `None` when server id or nonce have another length
    /// than configured. The data path never does this; `explain` and tests do.
    pub fn encode(
        &self,
        server_id: ServerId,
        nonce: &[u8],
    ) -> Option<ArrayVec<u8, { MAX_ENCODED + 1 }>> {
        let mut plain = ArrayVec::<u8, MAX_ENCODED>::new();
        plain.try_extend_from_slice(server_id.octets()).ok()?;
        plain.try_extend_from_slice(nonce).ok()?;
        let lengths = (server_id.octets().len(), plain.len());
        if lengths != (self.server_id_length, self.encoded_length) {
            return None;
        }
        let mut id = ArrayVec::new();
        id.try_push(self.config_id << 5 | self.encoded_length as u8).ok()?;
        let Some(cipher) = &self.cipher else {
            id.try_extend_from_slice(&plain).ok()?;
            return Some(id);
        };
        if let Ok(block) = <[u8; BLOCK]>::try_from(plain.as_slice()) {
            let mut block = block.into();
            cipher.encrypt_block(&mut block);
            id.try_extend_from_slice(&block).ok()?;
            return Some(id);
        }
        let mut halves = self.split(&plain);
        halves.right = self.round(cipher, 1, halves.left, halves.right, Side::Right);
        halves.left = self.round(cipher, 2, halves.right, halves.left, Side::Left);
        halves.right = self.round(cipher, 3, halves.left, halves.right, Side::Right);
        halves.left = self.round(cipher, 4, halves.right, halves.left, Side::Left);
        id.try_extend_from_slice(self.join(&halves).get(..self.encoded_length)?).ok()?;
        Some(id)
    }

    /// Octets of each half; an odd octet counts for both.
    fn half_length(&self) -> usize {
        self.encoded_length.div_ceil(2)
    }

    /// Clears the nibble of the middle octet that belongs to the other half.
    fn clear(&self, half: &mut [u8; HALF], side: Side) {
        if self.encoded_length.is_multiple_of(2) {
            return;
        }
        match side {
            Side::Left => {
                if let Some(last) = half.get_mut(self.half_length() - 1) {
                    *last &= 0xf0;
                }
            }
            Side::Right => half[0] &= 0x0f,
        }
    }

    fn split(&self, encoded: &[u8]) -> Halves {
        let mut halves = Halves { left: [0; HALF], right: [0; HALF] };
        let length = self.half_length();
        for (to, from) in halves.left.iter_mut().zip(encoded.iter().take(length)) {
            *to = *from;
        }
        for (to, from) in halves.right.iter_mut().zip(encoded.iter().skip(encoded.len() - length)) {
            *to = *from;
        }
        self.clear(&mut halves.left, Side::Left);
        self.clear(&mut halves.right, Side::Right);
        halves
    }

    /// Both halves; the middle octet put together. What is behind the encoded length is 0.
    fn join(&self, halves: &Halves) -> [u8; 2 * HALF] {
        let mut joined = [0; 2 * HALF];
        let length = self.half_length();
        for (to, from) in joined.iter_mut().zip(halves.left.iter().take(length)) {
            *to = *from;
        }
        let right = joined.iter_mut().skip(self.encoded_length - length);
        for (to, from) in right.zip(halves.right.iter().take(length)) {
            *to |= *from;
        }
        joined
    }

    /// One round: `onto`, which is the half on `side`, changed by `from`. The block is `from`,
    /// zeros, the encoded length and the number of the pass.
    fn round(
        &self,
        cipher: &Aes128,
        pass: u8,
        from: [u8; HALF],
        mut onto: [u8; HALF],
        side: Side,
    ) -> [u8; HALF] {
        let mut block = [0; BLOCK];
        // Behind its length a half is 0, and HALF is below 14.
        for (to, from) in block.iter_mut().zip(from) {
            *to = from;
        }
        block[14] = self.encoded_length as u8;
        block[15] = pass;
        let mut block = block.into();
        cipher.encrypt_block(&mut block);
        for (to, from) in onto.iter_mut().zip(block).take(self.half_length()) {
            *to ^= from;
        }
        self.clear(&mut onto, side);
        onto
    }
}

#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("config_id", &self.config_id)
            .field("server_id_length", &self.server_id_length)
            .field("encoded_length", &self.encoded_length)
            .field("self_encoded_length", &self.self_encoded_length)
            .field("encrypted", &self.cipher.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn octets(digits: &str) -> Vec<u8> {
        let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    fn decoder(config_id: u8, server_id: usize, nonce: usize, key: Option<&str>) -> Decoder {
        Decoder::new(&Configuration {
            config_id,
            server_id_length: server_id as u8,
            nonce_length: nonce as u8,
            key: key.map(|key| octets(key).try_into().unwrap()),
            self_encoded_length: true,
        })
        .unwrap()
    }

    /// Appendix B of the draft, and the example of its section 5.4.2. (Its second line has a digit
    /// too many, and the last is said to have the bits 3, where the id itself says 0.)
    #[test]
    fn vectors_of_the_draft() {
        const KEY: Option<&str> = Some("8f95f09245765f80256934e50c66207f");
        const EXAMPLE: Option<&str> = Some("fdf726a9893ec05c0632d3956680baf0");
        let vectors = [
            (0, "c4605e", "4504cc4f", None, "07c4605e4504cc4f"),
            (1, "350d28b420", "3487d970", None, "29350d28b4203487d970"),
            (0, "ed793a", "ee080dbf", KEY, "0720b1d07b359d3c"),
            (1, "ed793a51d49b8f5fab65", "ee080dbf48", KEY, "2fcc381bc74cb4fbad2823a3d1f8fed2"),
            (2, "ed793a51d49b8f5f", "ee080dbf48c0d1e5", KEY, "504dd2d05a7b0de9b2b9907afb5ecf8cc3"),
            (
                0,
                "ed793a51d49b8f5fab",
                "ee080dbf48c0d1e55d",
                KEY,
                "125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc",
            ),
            (0, "31441a", "9c69c275", EXAMPLE, "0767947d29be054a"),
        ];
        for (config_id, server_id, nonce, key, id) in vectors {
            let (server_id, nonce, id) = (octets(server_id), octets(nonce), octets(id));
            let decoder = decoder(config_id, server_id.len(), nonce.len(), key);
            let server_id = ServerId::new(&server_id).unwrap();
            assert_eq!(decoder.encode(server_id, &nonce).unwrap().as_slice(), id, "{server_id}");
            assert_eq!(decoder.decode(ConnectionId::Long(&id)), Some(server_id));
        }
    }

    #[test]
    fn an_id_that_contradicts_its_own_length_is_unroutable() {
        let id = octets("07c4605e4504cc4f");
        let checked = decoder(0, 3, 4, None);
        let lax = Decoder { self_encoded_length: false, ..decoder(0, 3, 4, None) };
        for wrong in [&octets("06c4605e4504cc4f"), &octets("08c4605e4504cc4f")] {
            assert_eq!(checked.decode(ConnectionId::Long(wrong)), None);
            assert!(lax.decode(ConnectionId::Long(wrong)).is_some());
        }
        // What follows a short header's id may be anything; octets that a server appends count.
        let packet = [&id[..], &[0x55; 30]].concat();
        assert!(checked.decode(ConnectionId::Short(&packet)).is_some());
        assert!(checked.decode(ConnectionId::Long(&packet)).is_none());
        let longer = octets("09c4605e4504cc4f0102");
        assert_eq!(checked.decode(ConnectionId::Long(&longer)), ServerId::new(&id[1..4]));
        assert_eq!(checked.decode(ConnectionId::Short(&octets("06c4605e4504cc4f"))), None);
        assert_eq!(checked.decode(ConnectionId::Short(&id[..7])), None);
    }

    proptest! {
        #[test]
        fn what_a_server_encodes_is_decoded(
            (server_id, nonce) in (1usize..=15).prop_flat_map(|length| (
                prop::collection::vec(any::<u8>(), length),
                prop::collection::vec(any::<u8>(), 4..=(19 - length)),
            )),
            key in prop::option::of(any::<[u8; 16]>()),
            config_id in 0u8..7,
        ) {
            let decoder = Decoder::new(&Configuration {
                config_id,
                server_id_length: server_id.len() as u8,
                nonce_length: nonce.len() as u8,
                key,
                self_encoded_length: true,
            }).unwrap();
            let server_id = ServerId::new(&server_id).unwrap();
            let id = decoder.encode(server_id, &nonce).unwrap();
            prop_assert_eq!(decoder.decode(ConnectionId::Long(&id)), Some(server_id));
            let packet = [&id[..], &[0xaa; 9]].concat();
            prop_assert_eq!(decoder.decode(ConnectionId::Short(&packet)), Some(server_id));
        }
    }
}
