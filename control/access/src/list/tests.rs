use super::*;
use crate::files::tests::write;
use crate::peer::ProvenNames;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use tonic::Code;
use tonic::metadata::MetadataValue;

const OPERATORS: &str = "operators-token-0123456789";
const CHECKERS: &str = "checkers-token-0123456789";

struct List {
    access: Access,
    folder: tempfile::TempDir,
}

fn entry(name: &str, role: Role, proof: Proof) -> Entry {
    Entry { name: name.to_owned(), role, proof }
}

fn certificate(name: &str, role: Role, subject: &str) -> Entry {
    entry(name, role, Proof::Certificate(subject.to_owned()))
}

/// Two tokens, two certificates.
fn list() -> List {
    let folder = tempfile::tempdir().unwrap();
    let (operators, checkers) = (folder.path().join("operators"), folder.path().join("checkers"));
    write(&operators, OPERATORS, 0o600);
    write(&checkers, CHECKERS, 0o600);
    let access = Access::new(vec![
        entry("alice", Role::Operator, Proof::TokenFile(operators)),
        entry("checker-1", Role::Checker, Proof::TokenFile(checkers)),
        certificate("lb-a1", Role::Node, "lb-a1.example"),
        certificate("lb-a2", Role::Node, "lb-a2.example"),
    ]);
    List { access: access.unwrap(), folder }
}

fn peer(names: &[&str], valid_until: i64) -> Peer {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = Some(Arc::new(ProvenNames { names, valid_until }));
    Peer { certificate, ..Peer::default() }
}

fn request(token: Option<&str>, peer: Option<Peer>) -> Request<()> {
    let mut request = Request::new(());
    if let Some(token) = token {
        let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    request
}

#[test]
fn a_token_or_a_certificate_name_is_an_identity() {
    let list = list();
    for (shown, expected, role) in [
        (request(Some(OPERATORS), None), "alice", Role::Operator),
        (request(Some(CHECKERS), None), "checker-1", Role::Checker),
        (request(None, Some(peer(&["x", "LB-A2.example"], i64::MAX))), "lb-a2", Role::Node),
        // The first of the list, not of the certificate.
        (
            request(None, Some(peer(&["lb-a2.example", "lb-a1.example"], i64::MAX))),
            "lb-a1",
            Role::Node,
        ),
        // A token decides alone.
        (
            request(Some(CHECKERS), Some(peer(&["lb-a1.example"], i64::MAX))),
            "checker-1",
            Role::Checker,
        ),
    ] {
        let identity = list.access.caller(&shown).unwrap();
        assert_eq!((identity.name(), identity.role()), (expected, role));
    }
}

#[test]
fn strangers_are_told_what_was_expected_and_never_what_they_showed() {
    let list = list();
    for (shown, expected) in [
        (request(None, None), "expected a client certificate"),
        (request(Some("stolen-token-0123456789"), None), "the token is not known"),
        (request(Some(""), None), "the token is not known"),
        (
            request(Some("stolen-token-0123456789"), Some(peer(&["lb-a1.example"], i64::MAX))),
            "the token is not known",
        ),
        (
            request(None, Some(peer(&["evil.example"], i64::MAX))),
            "is for evil.example: no access entry names it",
        ),
        (request(None, Some(peer(&["lb-a1.example"], 1))), "has expired"),
    ] {
        let refused = list.access.caller(&shown).unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert!(refused.message().contains(expected), "{refused}");
        assert!(!format!("{refused:?}").contains("stolen"), "{refused:?}");
    }
}

#[test]
fn http_requests_are_identified_by_the_same_rules() {
    let list = list();
    let (mut head, ()) = http::Request::new(()).into_parts();
    assert!(list.access.http_caller(&head).is_err());
    head.extensions.insert(peer(&["lb-a1.example"], i64::MAX));
    assert_eq!(list.access.http_caller(&head).unwrap().name(), "lb-a1");
    let value = HeaderValue::from_str(&format!("Bearer {OPERATORS}")).unwrap();
    head.headers.insert(AUTHORIZATION, value);
    assert_eq!(list.access.http_caller(&head).unwrap().name(), "alice");
}

#[test]
fn open_access_is_for_loopback_alone() {
    for listener in ["127.0.0.1:0", "127.3.2.1:80", "[::1]:9190", "[::ffff:127.0.0.1]:1"] {
        let access = Access::open(listener.parse().unwrap()).unwrap();
        let anybody = access.caller(&request(None, None)).unwrap();
        assert!(access.is_open() && anybody.is_open());
        anybody.require(&[]).unwrap();
    }
    for listener in ["0.0.0.0:9190", "[::]:9190", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
        let refused = Access::open(listener.parse().unwrap()).unwrap_err().to_string();
        assert!(refused.contains("is no loopback address: expected TLS and access entries"));
    }
}

#[test]
fn other_addresses_need_tls_and_entries() {
    let everywhere = ["127.0.0.1:1".parse().unwrap(), "0.0.0.0:1".parse().unwrap()];
    let tls = |client_ca: Option<&str>| TlsSettings {
        certificate: "c".into(),
        key: "k".into(),
        client_ca: client_ca.map(Into::into),
    };
    let entries = || vec![certificate("a", Role::Node, "a")];
    let build = |entries, tls: Option<TlsSettings>| {
        Access::build(entries, tls.as_ref(), &everywhere).map_err(|error| error.to_string())
    };
    assert!(build(entries(), Some(tls(Some("ca")))).is_ok());
    for (refused, expected) in [
        (build(entries(), None), "0.0.0.0:1 is no loopback address: expected TLS, or"),
        (build(Vec::new(), Some(tls(None))), "expected access entries, or"),
        (build(Vec::new(), None), "expected TLS and access entries, or"),
        (build(entries(), Some(tls(None))), "entry \"a\": a certificate can only be verified with"),
    ] {
        let refused = refused.unwrap_err();
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn entries_that_contradict_each_other_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let token = |name: &str, content: &str| {
        let path = folder.path().join(name);
        write(&path, content, 0o600);
        Proof::TokenFile(path)
    };
    let (one, same) = (token("one", OPERATORS), token("same", &format!("{CHECKERS}\n{OPERATORS}")));
    let empty = token("empty", "");
    for (entries, expected) in [
        (vec![], "at least one entry"),
        (vec![certificate("", Role::Node, "a")], "expected a name"),
        (vec![certificate("a", Role::Node, "")], "expected a DNS name"),
        (
            vec![certificate("a", Role::Node, "a"), certificate("a", Role::Checker, "b")],
            "\"a\": has the roles node and checker",
        ),
        (
            vec![certificate("a", Role::Node, "x"), certificate("b", Role::Node, "X")],
            "\"b\": the certificate \"X\" is \"a\"'s too",
        ),
        (
            vec![entry("a", Role::Node, one), entry("b", Role::Node, same)],
            "\"b\": shares a token with \"a\"",
        ),
        (vec![entry("a", Role::Node, empty)], "is empty: expected a token"),
    ] {
        let refused = Access::new(entries).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
        assert!(!refused.contains(OPERATORS), "{refused}");
    }
    // One caller may have several proofs.
    let both = vec![certificate("a", Role::Node, "a"), certificate("a", Role::Node, "b")];
    assert!(Access::new(both).is_ok());
}

#[test]
fn a_token_is_changed_in_its_file_while_calls_go_on() {
    let list = list();
    let path = list.folder.path().join("operators");
    let new = "another-token-0123456789";
    assert!(!list.access.reload().unwrap());

    write(&path, &format!("{OPERATORS}\n{new}\n"), 0o600);
    assert!(list.access.reload().unwrap());
    for token in [OPERATORS, new] {
        assert_eq!(list.access.caller(&request(Some(token), None)).unwrap().name(), "alice");
    }

    // A bad file changes nothing.
    write(&path, new, 0o644);
    assert!(list.access.reload().is_err());
    assert!(list.access.caller(&request(Some(OPERATORS), None)).is_ok());

    write(&path, new, 0o600);
    assert!(list.access.reload().unwrap());
    assert!(list.access.caller(&request(Some(OPERATORS), None)).is_err());
    assert!(list.access.caller(&request(Some(new), None)).is_ok());
}

#[test]
fn certificates_are_required_where_nobody_has_a_token() {
    assert_eq!(list().access.client_certificates(), ClientCertificates::Optional);
    let nodes = Access::new(vec![certificate("a", Role::Node, "a")]).unwrap();
    assert_eq!(nodes.client_certificates(), ClientCertificates::Required);
    let open = Access::open("[::1]:1".parse().unwrap()).unwrap();
    assert_eq!(open.client_certificates(), ClientCertificates::Optional);
    nodes.replace(&list().access);
    assert_eq!(nodes.client_certificates(), ClientCertificates::Optional);
}

#[test]
fn no_secret_is_in_a_debug_form() {
    let shown = format!("{:?}", list().access);
    assert!(shown.contains("alice") && !shown.contains(OPERATORS), "{shown}");
}
