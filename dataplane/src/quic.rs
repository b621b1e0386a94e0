//! Connection ids of QUIC that name a server (QUIC-LB, draft-ietf-quic-load-balancers).
//!
//! A QUIC client may change its address in the middle of a connection (RFC 9000 section 9); the
//! 5-tuple then says nothing, and what stays is that the server chose the id its client writes
//! into every packet. Under QUIC-LB it chose one that holds a server id, mostly encrypted, which a
//! balancer with the same configuration reads back. No state is kept: any node can do it.
//!
//! ```text
//!  first octet            server id            nonce
//! +---+-----------+----------------------+----------------+--------------------+
//! |cfg| length    | 1 to 15 octets       | 4 to 18 octets | the server's own   |
//! +---+-----------+----------------------+----------------+--------------------+
//!   3      5 bits  \______ one or four passes of AES _____/
//! ```
//!
//! In the order a packet meets them: [`header`] finds the id in the datagram, [`decoder`] reads the
//! server id out of it, by the configuration whose number stands in the first three bits (several
//! at once, so that keys can be rotated), and [`Router`] knows whose it is. What cannot be read
//! this way is *unroutable*, as a client's first packet is, whose id the client chose itself; it
//! goes the way of any other datagram.
//!
//! Only what all versions of QUIC have in common is looked at (RFC 8999).

pub mod decoder;
pub mod header;

use std::fmt;

use thiserror::Error;

pub use decoder::Decoder;
pub use header::ConnectionId;

/// Longest server id, in octets: four are left for the nonce of an id of 20 (RFC 9000 section
/// 17.2).
pub const MAX_SERVER_ID: usize = 15;
/// Least octets of a nonce.
pub const MIN_NONCE: usize = 4;
/// Most octets of server id and nonce together.
pub const MAX_ENCODED: usize = 19;
/// Configurations there can be at once; the eighth number says "unroutable".
pub const MAX_CONFIGURATIONS: usize = 7;

/// The name of a server, 1 to [`MAX_SERVER_ID`] octets. Shown in hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId {
    length: u8,
    octets: [u8; MAX_SERVER_ID],
}

/// How the servers of a pool make their connection ids. `Debug` hides the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Configuration {
    /// The three bits that name it, 0 to 6.
    pub config_id: u8,
    /// Octets of the server id, 1 to 15.
    pub server_id_length: u8,
    /// Octets of the nonce, from 4; with the server id at most 19.
    pub nonce_length: u8,
    /// The AES-128 key; `None`: server ids stand there in plain text.
    pub key: Option<[u8; 16]>,
    /// The other five bits of the first octet give the length of the rest; ids of which that is
    /// not true are unroutable.
    pub self_encoded_length: bool,
}

/// A configuration out of its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConfigurationError {
    /// There are only three bits, and one value is taken.
    #[error("config id {0} (expected 0 to 6)")]
    ConfigId(u8),
    /// Two configurations of one number.
    #[error("config id {0} is there twice")]
    SameConfigId(u8),
    /// A server id that is empty, or leaves no room.
    #[error("server ids of {0} octets (expected 1 to 15)")]
    ServerIdLength(u8),
    /// A nonce that repeats too soon, or does not fit.
    #[error(
        "a nonce of {nonce} octets beside a server id of {server_id} (expected at least 4, and together at most 19)"
    )]
    NonceLength {
        /// Octets of the nonce.
        nonce: u8,
        /// Octets of the server id.
        server_id: u8,
    },
}

/// Which backend a datagram names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The backend with this index.
    Backend {
        /// The configuration it was read by.
        config_id: u8,
        /// The server id that was read.
        server_id: ServerId,
        /// Index of the backend.
        backend: u32,
    },
    /// A server id that no backend of the pool has.
    Stranger {
        /// The configuration it was read by.
        config_id: u8,
        /// The server id that was read.
        server_id: ServerId,
    },
    /// Nothing that a configuration can read.
    Unroutable,
}

/// What a pool needs to read connection ids: its configurations, and whose server ids are whose.
#[derive(Debug)]
pub struct Router {
    /// By config id.
    decoders: [Option<Box<Decoder>>; MAX_CONFIGURATIONS],
    /// Sorted by server id.
    servers: Box<[(ServerId, u32)]>,
}

impl Router {
    /// A router; all key schedules are made here. Of a server id that is there twice, the first
    /// backend has it.
    ///
    /// # Errors
    /// A configuration out of its bounds, or two with one number.
    pub fn new(
        configurations: &[Configuration],
        servers: impl IntoIterator<Item = (ServerId, u32)>,
    ) -> Result<Self, ConfigurationError> {
        let mut decoders = [const { None }; MAX_CONFIGURATIONS];
        for configuration in configurations {
            let config_id = configuration.config_id;
            let place = decoders.get_mut(usize::from(config_id));
            let place = place.ok_or(ConfigurationError::ConfigId(config_id))?;
            if place.is_some() {
                return Err(ConfigurationError::SameConfigId(config_id));
            }
            *place = Some(Box::new(Decoder::new(configuration)?));
        }
        let mut servers: Vec<(ServerId, u32)> = servers.into_iter().collect();
        servers.sort_by_key(|(server_id, _)| *server_id);
        servers.dedup_by_key(|(server_id, _)| *server_id);
        Ok(Self { decoders, servers: servers.into() })
    }

    /// Which backend the payload of a UDP datagram names.
    pub fn route(&self, payload: &[u8]) -> Route {
        let Some(id) = header::destination_connection_id(payload) else {
            return Route::Unroutable;
        };
        let Some(config_id) = id.config_id() else { return Route::Unroutable };
        let decoder = self.decoders.get(usize::from(config_id)).and_then(Option::as_deref);
        let Some(server_id) = decoder.and_then(|decoder| decoder.decode(id)) else {
            return Route::Unroutable;
        };
        match self.backend(server_id) {
            Some(backend) => Route::Backend { config_id, server_id, backend },
            None => Route::Stranger { config_id, server_id },
        }
    }

    fn backend(&self, server_id: ServerId) -> Option<u32> {
        let at = self.servers.binary_search_by_key(&server_id, |(known, _)| *known).ok()?;
        self.servers.get(at).map(|(_, backend)| *backend)
    }
}

impl ServerId {
    /// A server id of these octets; `None` for none, and for more than [`MAX_SERVER_ID`].
    pub fn new(octets: &[u8]) -> Option<Self> {
        let mut id = Self { length: octets.len() as u8, octets: [0; MAX_SERVER_ID] };
        id.octets.get_mut(..octets.len())?.copy_from_slice(octets);
        (!octets.is_empty()).then_some(id)
    }

    /// The octets.
    pub fn octets(&self) -> &[u8] {
        self.octets.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.octets().iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerId({self})")
    }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config_id, server_id_length, nonce_length, key, self_encoded_length } = self;
        f.debug_struct("Configuration")
            .field("config_id", config_id)
            .field("server_id_length", server_id_length)
            .field("nonce_length", nonce_length)
            .field("encrypted", &key.is_some())
            .field("self_encoded_length", self_encoded_length)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(config_id: u8, server_id_length: u8) -> Configuration {
        Configuration {
            config_id,
            server_id_length,
            nonce_length: 4,
            key: None,
            self_encoded_length: false,
        }
    }

    fn server(octets: &[u8]) -> ServerId {
        ServerId::new(octets).unwrap()
    }

    #[test]
    fn configurations_stand_side_by_side_while_keys_are_rotated() {
        let encrypted = Configuration { key: Some([7; 16]), ..configuration(1, 2) };
        let servers = [(server(&[9]), 3), (server(&[0, 9]), 4), (server(&[1]), 5)];
        let router = Router::new(&[configuration(0, 1), encrypted.clone()], servers).unwrap();
        let route = |id: &[u8]| router.route(&[&[0x40], id].concat());
        let old = [0x00, 9, 1, 2, 3, 4];
        let new = Decoder::new(&encrypted).unwrap().encode(server(&[0, 9]), &[5; 4]).unwrap();
        assert!(matches!(route(&old), Route::Backend { config_id: 0, backend: 3, .. }));
        assert!(matches!(route(&new), Route::Backend { config_id: 1, backend: 4, .. }));
        let stranger = Route::Stranger { config_id: 0, server_id: server(&[8]) };
        assert_eq!(route(&[0x1f, 8, 1, 2, 3, 4]), stranger);
        // No such configuration; the number that says so; an id that is too short; nothing.
        for unroutable in [&[0x40, 9, 1, 2, 3, 4][..], &[0xe0, 9, 1, 2, 3, 4], &old[..5], &[]] {
            assert_eq!(route(unroutable), Route::Unroutable, "{unroutable:02x?}");
        }
        assert_eq!(router.route(&[]), Route::Unroutable);
    }

    #[test]
    fn configurations_out_of_bounds_are_refused() {
        let refused = |configurations: &[Configuration]| {
            Router::new(configurations, []).err().map(|error| error.to_string())
        };
        let with_nonce = |server_id_length, nonce_length| Configuration {
            nonce_length,
            ..configuration(0, server_id_length)
        };
        assert_eq!(refused(&[with_nonce(1, 18), configuration(6, 15)]), None);
        for bad in [configuration(7, 1), configuration(0, 0), with_nonce(1, 3), with_nonce(2, 18)] {
            assert!(refused(std::slice::from_ref(&bad)).is_some(), "{bad:?}");
        }
        assert!(refused(&[with_nonce(16, 4)]).is_some());
        assert_eq!(
            refused(&[configuration(2, 1), configuration(2, 3)]).as_deref(),
            Some("config id 2 is there twice")
        );
    }

    #[test]
    fn debug_output_hides_the_key() {
        let configuration = Configuration { key: Some([0xab; 16]), ..configuration(0, 1) };
        let router = Router::new(std::slice::from_ref(&configuration), []).unwrap();
        for text in [format!("{configuration:?}"), format!("{router:?}")] {
            assert!(!text.contains("171") && !text.contains("ab, ab"), "{text}");
        }
    }
}
