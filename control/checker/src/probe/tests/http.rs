//! HTTP and HTTPS: answers of all kinds, and none.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::*;

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

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
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
    let answered = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let head = read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("written");
        head.to_ascii_lowercase()
    };
    // Where no name is known as the loopback's, nobody connects.
    let answered = tokio::time::timeout(2 * LONG, answered);
    let (found, head) = tokio::join!(finding(&probe, LONG), answered);
    assert_eq!(found, Finding::Pass);
    let head = head.expect("asked in time");
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
async fn https_server(folder: &Path, name: &str) -> (Server, PathBuf) {
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
