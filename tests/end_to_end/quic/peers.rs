//! Real QUIC on both sides: servers on the backends, whose connection ids name them, and clients
//! that change their address in the middle of a download.
//!
//! Endpoints run in the test, on sockets made in the lab's namespaces. A client's window is small
//! beside the file, so that a download that was begun needs the client's packets to come to its
//! end: what was on the way when the client moved is never enough.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dataplane::quic::{Configuration, Decoder, ServerId};
use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use quinn::{
    ClientConfig, Connection, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig,
    RecvStream, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};

use crate::lab::Lab;

/// Bytes of the file that every server has.
pub(crate) const FILE_BYTES: usize = 400_000;
/// Bytes that a client reads before it moves.
const FIRST_BYTES: usize = 20_000;
/// Bytes that a server may send unasked.
const WINDOW: u32 = 40_000;
/// Longest wait for a handshake or a download: machines that run tests are slow.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two packets of a connection that has nothing to say.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// The certificate of all servers, and how long a silence ends a connection.
pub(crate) struct Secrets {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    silence: Duration,
}

/// How a server makes its connection ids, which can change while it runs.
#[derive(Clone)]
pub(crate) struct Naming {
    server_id: ServerId,
    configuration: Arc<Mutex<Configuration>>,
    /// How many ids were made with each configuration, by config id.
    made: Arc<[AtomicU64; 7]>,
}

/// One server on one backend.
pub(crate) struct Server {
    pub(crate) backend: String,
    pub(crate) naming: Naming,
    endpoint: Endpoint,
    connections: Arc<Mutex<Vec<Connection>>>,
}

/// One client with one download under way.
pub(crate) struct Client {
    /// The backend that sends the file.
    pub(crate) backend: String,
    /// Where the client is now.
    pub(crate) address: SocketAddr,
    endpoint: Endpoint,
    file: RecvStream,
    received: usize,
}

impl Secrets {
    pub(crate) fn new(silence: Duration) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["quic.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        Self { certificate: made.cert.into(), key, silence }
    }

    fn transport(&self) -> Arc<TransportConfig> {
        let mut transport = TransportConfig::default();
        transport.max_idle_timeout(Some(self.silence.try_into().unwrap()));
        transport.keep_alive_interval(Some(KEEP_ALIVE));
        transport.stream_receive_window(VarInt::from_u32(WINDOW));
        // Devices without checksums in hardware, as in the lab, refuse it after the first packet.
        transport.enable_segmentation_offload(false);
        Arc::new(transport)
    }

    fn server(&self) -> ServerConfig {
        let chain = vec![self.certificate.clone()];
        let mut config = ServerConfig::with_single_cert(chain, self.key.clone_key()).unwrap();
        config.transport_config(self.transport());
        config
    }

    fn client(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
        config.transport_config(self.transport());
        config
    }
}

impl Naming {
    pub(crate) fn new(server_id: &[u8], configuration: Configuration) -> Self {
        Self {
            server_id: ServerId::new(server_id).unwrap(),
            configuration: Arc::new(Mutex::new(configuration)),
            made: Arc::default(),
        }
    }

    /// From now on ids are made by another configuration, of the same length.
    pub(crate) fn change(&self, configuration: Configuration) {
        *self.configuration.lock().unwrap() = configuration;
    }

    /// How many ids were made with a configuration.
    pub(crate) fn made(&self, config_id: u8) -> u64 {
        self.made[usize::from(config_id)].load(Ordering::Relaxed)
    }

    fn lengths(&self) -> (usize, usize) {
        let configuration = self.configuration.lock().unwrap();
        (configuration.server_id_length.into(), configuration.nonce_length.into())
    }
}

impl ConnectionIdGenerator for Naming {
    fn generate_cid(&mut self) -> ConnectionId {
        // No nonce twice: a counter is enough where nobody listens.
        static NONCE: AtomicU64 = AtomicU64::new(1);
        let count = NONCE.fetch_add(1, Ordering::Relaxed);
        let configuration = self.configuration.lock().unwrap().clone();
        let mut nonce = vec![0; configuration.nonce_length.into()];
        for (octet, low) in nonce.iter_mut().zip(count.to_le_bytes()) {
            *octet = low;
        }
        let mut id = Decoder::new(&configuration).unwrap().encode(self.server_id, &nonce).unwrap();
        if !configuration.self_encoded_length {
            // Then the five bits may be anything.
            id[0] = id[0] & 0xe0 | (count * 7 % 32) as u8;
        }
        self.made[usize::from(configuration.config_id)].fetch_add(1, Ordering::Relaxed);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        let (server_id, nonce) = self.lengths();
        1 + server_id + nonce
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

impl Server {
    /// Serves the file on a backend, to any number of connections.
    pub(crate) fn start(
        lab: &Lab,
        backend: &str,
        at: SocketAddr,
        naming: Naming,
        secrets: &Secrets,
    ) -> Self {
        let mut config = EndpointConfig::default();
        let generator = naming.clone();
        config.cid_generator(move || Box::new(generator.clone()));
        let socket = lab.udp_socket(backend, at);
        let runtime = Arc::new(TokioRuntime);
        let endpoint = Endpoint::new(config, Some(secrets.server()), socket, runtime).unwrap();
        let connections = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(serve(endpoint.clone(), backend.to_owned(), connections.clone()));
        Self { backend: backend.to_owned(), naming, endpoint, connections }
    }

    /// The addresses of its clients, as it knows them now.
    pub(crate) fn clients(&self) -> Vec<SocketAddr> {
        let connections = self.connections.lock().unwrap();
        connections.iter().map(Connection::remote_address).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.endpoint.close(VarInt::from_u32(0), b"");
    }
}

async fn serve(endpoint: Endpoint, name: String, connections: Arc<Mutex<Vec<Connection>>>) {
    while let Some(incoming) = endpoint.accept().await {
        let (name, connections) = (name.clone(), connections.clone());
        tokio::spawn(async move {
            // A client that gave up is the client's failure to report.
            let Ok(connection) = incoming.await else { return };
            connections.lock().unwrap().push(connection.clone());
            let Ok(mut stream) = connection.open_uni().await else { return };
            if stream.write_all(&[name.len() as u8]).await.is_ok()
                && stream.write_all(name.as_bytes()).await.is_ok()
                && stream.write_all(&file()).await.is_ok()
                && stream.finish().is_ok()
            {
                let _ = stream.stopped().await;
            }
        });
    }
}

/// What is in the file: no two of its pages are the same.
fn file() -> Vec<u8> {
    (0..FILE_BYTES).map(|at| (at % 251) as u8).collect()
}

impl Client {
    /// Connects, and reads the beginning of the file.
    ///
    /// # Errors
    /// The connection's words.
    pub(crate) async fn connect(
        lab: &Lab,
        address: SocketAddr,
        server: SocketAddr,
        secrets: &Secrets,
    ) -> Result<Self, String> {
        let socket = lab.udp_socket("client", address);
        let runtime = Arc::new(TokioRuntime);
        let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, runtime).unwrap();
        let connecting = endpoint.connect_with(secrets.client(), server, "quic.test").unwrap();
        within("the handshake", async {
            let connection = connecting.await.map_err(|error| error.to_string())?;
            let mut file = connection.accept_uni().await.map_err(|error| error.to_string())?;
            let mut length = [0];
            file.read_exact(&mut length).await.map_err(|error| error.to_string())?;
            let mut name = vec![0; length[0].into()];
            file.read_exact(&mut name).await.map_err(|error| error.to_string())?;
            let backend = String::from_utf8_lossy(&name).into_owned();
            let mut client = Self { backend, address, endpoint, file, received: 0 };
            client.read(FIRST_BYTES).await?;
            Ok(client)
        })
        .await
    }

    /// Leaves its address for another, in the middle of the download.
    pub(crate) fn move_to(&mut self, lab: &Lab, address: SocketAddr) {
        self.endpoint.rebind(lab.udp_socket("client", address)).unwrap();
        self.address = address;
    }

    /// Reads some more of the file.
    ///
    /// # Errors
    /// The connection's words.
    pub(crate) async fn read(&mut self, bytes: usize) -> Result<(), String> {
        let mut buffer = vec![0; bytes];
        self.file.read_exact(&mut buffer).await.map_err(|error| error.to_string())?;
        let expected = (self.received..).map(|at| (at % 251) as u8);
        if !buffer.iter().copied().eq(expected.take(bytes)) {
            return Err("the file is damaged".to_owned());
        }
        self.received += bytes;
        Ok(())
    }

    /// Reads the rest.
    ///
    /// # Errors
    /// The connection's words.
    pub(crate) async fn finish(&mut self) -> Result<(), String> {
        let rest = FILE_BYTES - self.received;
        within("the download", self.read(rest)).await
    }
}

/// Waits for long, and not for ever.
async fn within<T>(what: &str, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| Err(format!("waited {PATIENCE:?} for {what}")))
}
