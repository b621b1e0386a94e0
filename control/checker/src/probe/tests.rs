//! Each kind of probe against real servers on loopback: those that answer, and all the others.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

use super::*;

/// More than any machine needs.
const LONG: Duration = Duration::from_secs(20);
/// Enough to be sure that nothing comes.
const SHORT: Duration = Duration::from_millis(300);

/// A task that ends with the test.
struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn finding(probe: &Probe, limit: Duration) -> Finding {
    let prober = Prober::new(None, 4).expect("a prober");
    let mut started = 0;
    let finding = prober.probe(probe, limit, || started += 1).await;
    assert_eq!(started, 1, "every probe starts once");
    finding
}

fn failed(finding: Finding) -> String {
    match finding {
        Finding::Fail(why) => why,
        other => panic!("expected a failure, got {other:?}"),
    }
}

fn not_probed(finding: Finding) -> String {
    match finding {
        Finding::NotProbed(why) => why,
        other => panic!("expected no probe, got {other:?}"),
    }
}

/// An address on which nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    listener.local_addr().expect("an address")
}

/// A listener whose queue is full: the kernel drops further SYNs, as a black hole would.
struct BlackHole {
    address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<Socket>,
}

fn black_hole() -> BlackHole {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let listener = socket();
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    listener.listen(0).expect("listening");
    let address = listener.local_addr().expect("an address");
    let mut waiting = Vec::new();
    // The first ones fill the queue; one that does not get through within a while proves it.
    for _ in 0..16 {
        let client = socket();
        match client.connect_timeout(&address, SHORT) {
            Ok(()) => waiting.push(client),
            Err(_) => break,
        }
    }
    let address = address.as_socket().expect("an address");
    BlackHole { address, _listener: listener, _waiting: waiting }
}

/// Answers each connection's request with `answer`, then closes; `None`: reads and says nothing.
async fn http_server(answer: Option<&'static str>) -> Server {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            read_head(&mut stream).await;
            match answer {
                Some(answer) => stream.write_all(answer.as_bytes()).await.expect("written"),
                None => open.push(stream),
            }
        }
    });
    Server { address, task }
}

async fn read_head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).expect("text")
}

fn url(address: SocketAddr, status: u32) -> Probe {
    Probe::Http(HttpProbe::parse(&format!("http://{address}/ready"), status).expect("a URL"))
}

#[tokio::test]
async fn tcp_passes_where_connections_are_accepted_and_leaves_no_time_wait() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    assert_eq!(finding(&Probe::Tcp(address), LONG).await, Finding::Pass);
    let (mut stream, _) = listener.accept().await.expect("the probe's connection");
    let error = stream.read(&mut [0]).await.expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn tcp_fails_where_they_are_refused() {
    let why = failed(finding(&Probe::Tcp(nobody().await), LONG).await);
    assert_eq!(why, "connection refused");
}

#[tokio::test]
async fn tcp_into_a_black_hole_ends_at_the_timeout() {
    let hole = black_hole();
    let start = Instant::now();
    assert_eq!(finding(&Probe::Tcp(hole.address), SHORT).await, Finding::Timeout(SHORT));
    assert!(start.elapsed() >= SHORT);
}

#[tokio::test]
async fn http_passes_at_the_expected_status_only() {
    let ok = http_server(Some("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")).await;
    let sorry = http_server(Some("HTTP/1.1 503 Sorry\r\ncontent-length: 0\r\n\r\n")).await;
    let empty = http_server(Some("HTTP/1.1 204 No Content\r\n\r\n")).await;
    assert_eq!(finding(&url(ok.address, 0), LONG).await, Finding::Pass);
    assert_eq!(finding(&url(ok.address, 200), LONG).await, Finding::Pass);
    assert_eq!(finding(&url(sorry.address, 503), LONG).await, Finding::Pass);
    let why = failed(finding(&url(sorry.address, 0), LONG).await);
    assert_eq!(why, "status 503, expected 200");
    assert_eq!(failed(finding(&url(empty.address, 0), LONG).await), "status 204, expected 200");
}

#[tokio::test]
async fn http_as_liveness_takes_any_success_or_redirect() {
    let at = |server: &Server| Probe::Http(HttpProbe::at(server.address, 0).expect("a probe"));
    let moved = http_server(Some("HTTP/1.1 301 Moved\r\nlocation: /x\r\n\r\n")).await;
    let sorry = http_server(Some("HTTP/1.1 503 Sorry\r\n\r\n")).await;
    assert_eq!(finding(&at(&moved), LONG).await, Finding::Pass);
    assert_eq!(failed(finding(&at(&sorry), LONG).await), "status 503, expected 200 to 399");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let target = http_server(Some("HTTP/1.1 200 OK\r\n\r\n")).await;
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: http://{}/\r\n\r\n", target.address);
    let moved = http_server(Some(answer.leak())).await;
    let why = failed(finding(&url(moved.address, 0), LONG).await);
    assert_eq!(why, "status 302, expected 200");
}

#[tokio::test]
async fn http_that_is_slow_or_broken_fails() {
    let silent = http_server(None).await;
    assert_eq!(finding(&url(silent.address, 0), SHORT).await, Finding::Timeout(SHORT));

    let short = http_server(Some("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbreaks off")).await;
    assert!(failed(finding(&url(short.address, 0), LONG).await).starts_with("broken body"));

    let other = http_server(Some("220 mail.example ESMTP\r\n\r\n")).await;
    failed(finding(&url(other.address, 0), LONG).await);

    let closing = http_server(Some("")).await;
    failed(finding(&url(closing.address, 0), LONG).await);

    let why = failed(finding(&url(nobody().await, 0), LONG).await);
    assert_eq!(why, "connection refused");
}

#[tokio::test]
async fn heads_and_bodies_without_end_are_cut_off() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let head = read_head(&mut stream).await;
            let (start, rest): (&[u8], &[u8]) = match head.contains("GET /body") {
                true => (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
                false => (b"HTTP/1.1 200 OK\r\nx: ", b"x"),
            };
            let rest = rest.repeat(8192);
            let mut sent = stream.write_all(start).await;
            while sent.is_ok() {
                sent = stream.write_all(&rest).await;
            }
        }
    });
    let server = Server { address, task };
    let at = |path: &str| {
        let url = format!("http://{}/{path}", server.address);
        Probe::Http(HttpProbe::parse(&url, 0).expect("a URL"))
    };
    assert_eq!(finding(&at("body"), LONG).await, Finding::Pass);
    failed(finding(&at("head"), LONG).await);
}

#[tokio::test]
async fn the_request_says_whom_it_asks_and_who_asks() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let url = format!("http://localhost:{port}/ready?deep=1#top");
    let probe = Probe::Http(HttpProbe::parse(&url, 0).expect("a URL"));
    let (found, head) = tokio::join!(finding(&probe, LONG), async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let head = read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("written");
        head.to_ascii_lowercase()
    });
    assert_eq!(found, Finding::Pass);
    assert!(head.starts_with("get /ready?deep=1 http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: localhost:{port}\r\n")), "{head}");
    assert!(head.contains("connection: close\r\n"), "{head}");
    assert!(head.contains("user-agent: weir-checker/"), "{head}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_says_nothing_about_the_backend() {
    let probe = HttpProbe::parse("http://no-such-host.invalid/", 0).expect("a URL");
    let why = not_probed(finding(&Probe::Http(probe), LONG).await);
    assert!(why.contains("no-such-host.invalid"), "{why}");
}

/// A TLS server for `name`, and the file of its CA.
async fn https_server(folder: &Path, name: &str) -> (Server, std::path::PathBuf) {
    let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("key")).expect("a CA");
    let key = KeyPair::generate().expect("key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let own = params.signed_by(&key, &ca).expect("signed");
    let file = folder.join(format!("{name}.pem"));
    std::fs::write(&file, ca.pem()).expect("written");

    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], key)
        .expect("a certificate");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            // A probe that does not trust us ends the handshake.
            if let Ok(mut stream) = acceptor.accept(stream).await {
                read_head(&mut stream).await;
                let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                let _gone = stream.shutdown().await;
            }
        }
    });
    (Server { address, task }, file)
}

#[tokio::test]
async fn https_passes_with_the_configured_ca_and_the_right_name_only() {
    let folder = TempDir::new().expect("a folder");
    let (server, ca) = https_server(folder.path(), "localhost").await;
    let (_, other_ca) = https_server(folder.path(), "other").await;
    let port = server.address.port();
    let to = |host: &str| {
        let url = format!("https://{host}:{port}/");
        Probe::Http(HttpProbe::parse(&url, 0).expect("a URL"))
    };
    let trusting = Prober::new(Some(&ca), 1).expect("a prober");
    assert_eq!(trusting.probe(&to("localhost"), LONG, || {}).await, Finding::Pass);
    let why = failed(trusting.probe(&to("127.0.0.1"), LONG, || {}).await);
    assert!(why.starts_with("TLS: "), "{why}");
    let other = Prober::new(Some(&other_ca), 1).expect("a prober");
    let why = failed(other.probe(&to("localhost"), LONG, || {}).await);
    assert!(why.contains("invalid peer certificate"), "{why}");
    failed(finding(&to("localhost"), LONG).await);
    // Plain HTTP where TLS was expected.
    let plain = http_server(Some("HTTP/1.1 200 OK\r\n\r\n")).await;
    let url = format!("https://127.0.0.1:{}/", plain.address.port());
    let probe = Probe::Http(HttpProbe::parse(&url, 0).expect("a URL"));
    assert!(!matches!(trusting.probe(&probe, SHORT, || {}).await, Finding::Pass));
}

#[test]
fn a_file_that_holds_no_certificate_is_refused_by_its_name() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("ca.pem");
    assert!(Prober::new(Some(&path), 1).is_err_and(|error| error.to_string().contains("ca.pem")));
    std::fs::write(&path, "no certificate").expect("written");
    assert!(Prober::new(Some(&path), 1).is_err_and(|error| error.to_string().contains("ca.pem")));
}

#[tokio::test]
async fn udp_passes_with_a_reply_and_carries_the_payload() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = server.local_addr().expect("an address");
    let payload: Arc<[u8]> = b"are you there?".as_slice().into();
    let probe = Probe::Udp { address, payload };
    let (found, asked) = tokio::join!(finding(&probe, LONG), async {
        let mut asked = [0; 64];
        let (length, from) = server.recv_from(&mut asked).await.expect("a datagram");
        // From elsewhere: not a reply.
        let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        other.send_to(b"me", from).await.expect("sent");
        server.send_to(&[b'y'; 1000], from).await.expect("sent");
        asked[..length].to_vec()
    });
    assert_eq!(found, Finding::Pass);
    assert_eq!(asked, b"are you there?");
}

#[tokio::test]
async fn udp_fails_where_the_port_is_closed_and_where_nothing_comes() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = silent.local_addr().expect("an address");
    let probe = |address| Probe::Udp { address, payload: [].as_slice().into() };
    assert_eq!(finding(&probe(address), SHORT).await, Finding::Timeout(SHORT));
    drop(silent);
    assert_eq!(failed(finding(&probe(address), LONG).await), "port unreachable");
}

fn sh(script: &str) -> Probe {
    Probe::Command(["/bin/sh", "-c", script].map(str::to_owned).to_vec())
}

#[tokio::test]
async fn a_command_passes_with_0_and_fails_with_anything_else() {
    assert_eq!(finding(&sh("exit 0"), LONG).await, Finding::Pass);
    assert_eq!(failed(finding(&sh("exit 7"), LONG).await), "ended with 7");
    assert_eq!(failed(finding(&sh("kill -9 $$"), LONG).await), "killed by signal 9");
    let why = failed(finding(&sh("echo no quorum >&2; echo more >&2; exit 2"), LONG).await);
    assert_eq!(why, "ended with 2: no quorum");
}

#[tokio::test]
async fn a_command_gets_its_arguments_as_they_are_and_nothing_of_our_environment() {
    let argv = [
        "/bin/sh",
        "-c",
        "test \"$1\" = 'a b; $(x)' && test -z \"$CARGO_MANIFEST_DIR\"",
        "sh",
        "a b; $(x)",
    ];
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let probe = Probe::Command(argv.map(str::to_owned).to_vec());
    assert_eq!(finding(&probe, LONG).await, Finding::Pass);
    assert_eq!(finding(&sh("test -n \"$PATH\" && ! read line"), LONG).await, Finding::Pass);
}

#[tokio::test]
async fn a_command_that_writes_without_end_neither_blocks_nor_fills_memory() {
    let probe = sh("head -c 10000000 /dev/zero >&2; head -c 10000000 /dev/zero; exit 3");
    let why = failed(finding(&probe, LONG).await);
    assert!(why.starts_with("ended with 3") && why.len() < 1000, "{}", why.len());
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_all_it_started() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("pids");
    let script = format!("sleep 600 & echo $$ $! > {}; wait", file.display());
    let limit = Duration::from_secs(3);
    assert_eq!(finding(&sh(&script), limit).await, Finding::Timeout(limit));
    let pids = std::fs::read_to_string(&file).expect("it ran");
    for pid in pids.split_whitespace() {
        // An orphan is reaped by whoever is its parent now; a zombie has no command line.
        let gone = || std::fs::read(format!("/proc/{pid}/cmdline")).map_or(true, |c| c.is_empty());
        let start = Instant::now();
        while !gone() {
            assert!(start.elapsed() < LONG, "process {pid} is still there");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_command_that_leaves_a_child_with_its_pipe_ends_when_it_ends() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("pid");
    let script = format!("sleep 600 & echo $! > {}; exit 0", file.display());
    let found = finding(&sh(&script), LONG).await;
    let pid = std::fs::read_to_string(&file).expect("it ran").trim().parse().expect("a number");
    let pid = rustix::process::Pid::from_raw(pid).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it was left");
    assert_eq!(found, Finding::Pass);
}

#[tokio::test]
async fn a_command_that_cannot_be_started_says_nothing_about_the_backend() {
    let folder = TempDir::new().expect("a folder");
    let missing = folder.path().join("missing").display().to_string();
    let why = not_probed(finding(&Probe::Command(vec![missing.clone()]), LONG).await);
    assert!(why.contains(&missing), "{why}");
    let forbidden = folder.path().join("forbidden");
    std::fs::write(&forbidden, "").expect("written");
    std::fs::set_permissions(&forbidden, PermissionsExt::from_mode(0o600)).expect("set");
    not_probed(finding(&Probe::Command(vec![forbidden.display().to_string()]), LONG).await);
}

#[tokio::test]
async fn only_so_many_commands_run_at_once_and_the_others_wait_their_turn() {
    let prober = Prober::new(None, 1).expect("a prober");
    let (slow, quick) = (sh("sleep 1"), sh("exit 0"));
    let mut waited = None;
    let start = Instant::now();
    let (first, second) = tokio::join!(
        prober.probe(&slow, LONG, || {}),
        prober.probe(&quick, LONG, || waited = Some(start.elapsed()))
    );
    assert_eq!((first, second), (Finding::Pass, Finding::Pass));
    assert!(waited.expect("started") >= Duration::from_millis(900), "{waited:?}");
    let (_, third) = tokio::join!(prober.probe(&slow, LONG, || {}), async {
        prober.probe(&quick, Duration::from_millis(50), || {}).await
    });
    not_probed(third);
}

#[test]
fn want_of_descriptors_is_not_the_backends_fault() {
    for (errno, ours) in [
        (rustix::io::Errno::MFILE, true),
        (rustix::io::Errno::NFILE, true),
        (rustix::io::Errno::NOBUFS, true),
        (rustix::io::Errno::ADDRNOTAVAIL, true),
        (rustix::io::Errno::CONNREFUSED, false),
        (rustix::io::Errno::HOSTUNREACH, false),
        (rustix::io::Errno::NETUNREACH, false),
        (rustix::io::Errno::TIMEDOUT, false),
    ] {
        let finding = Finding::of(&io::Error::from(errno));
        assert_eq!(matches!(finding, Finding::NotProbed(_)), ours, "{finding:?}");
    }
}

#[tokio::test]
async fn ipv6_is_probed_like_ipv4() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
    let address = listener.local_addr().expect("an address");
    assert_eq!(finding(&Probe::Tcp(address), LONG).await, Finding::Pass);
    drop(TcpStream::connect(address).await.expect("connected"));
    let url = format!("http://{address}/");
    let probe = HttpProbe::parse(&url, 0).expect("a URL");
    assert_eq!(probe.host(), "::1");
}

#[test]
fn urls_that_cannot_be_probed_say_why_and_keep_passwords() {
    for (url, problem) in [
        ("", "no"),
        ("ftp://host/", "no such scheme"),
        ("//host/", "no such scheme"),
        ("http://", "no"),
        ("http://user:secret@host/", "a user in it"),
        ("https://ho_st!/", "no"),
    ] {
        let error = HttpProbe::parse(url, 0).expect_err(url);
        assert!(error.contains(problem) && !error.contains("secret"), "{url:?}: {error}");
    }
    HttpProbe::parse("http://host/", 1000).expect_err("no such status");
    HttpProbe::parse("http://host", 0).expect("the root");
}
