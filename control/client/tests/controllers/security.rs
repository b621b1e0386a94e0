//! Certificates, tokens, and what must never be sent where.

use std::path::PathBuf;

use client::{Controllers, Error, Settings, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use crate::fixture::{Controller, LONG, Role, settings};
use crate::get_pool;

/// A CA, and what it signed for `names`.
struct Signed {
    ca: String,
    certificate: String,
    key: String,
}

fn signed(names: &[&str]) -> Signed {
    let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("key")).expect("a CA");
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let key = KeyPair::generate().expect("key");
    let own = CertificateParams::new(names).expect("parameters").signed_by(&key, &ca);
    Signed { ca: ca.pem(), certificate: own.expect("signed").pem(), key: key.serialize_pem() }
}

fn file(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("written");
    path
}

fn refused(settings: Settings) -> String {
    Controllers::new(settings).expect_err("refused").to_string()
}

#[tokio::test]
async fn over_tls_the_token_reaches_the_leader_that_a_follower_names() {
    let folder = TempDir::new().expect("a folder");
    let made = signed(&["127.0.0.1"]);
    let tls = Some((made.certificate.as_str(), made.key.as_str()));
    let leader = Controller::start_with(Role::Leads, tls);
    let follower = Controller::start_with(Role::Follows(Some(leader.address.clone())), tls);
    let controllers = Controllers::new(Settings {
        tls: Some(Tls { ca: Some(file(&folder, "ca.pem", &made.ca)), ..Tls::default() }),
        token_file: Some(file(&folder, "token", " t0ken-1\n")),
        ..settings(&[&follower])
    })
    .expect("settings");
    get_pool(&controllers, LONG).await.expect("an answer");
    assert_eq!(leader.authorization().as_deref(), Some("Bearer t0ken-1"));
    assert!(!format!("{controllers:?} {:?}", controllers.connect().await).contains("t0ken"));
}

#[tokio::test]
async fn a_hint_never_leads_from_https_to_http() {
    let folder = TempDir::new().expect("a folder");
    let made = signed(&["127.0.0.1"]);
    let tls = Some((made.certificate.as_str(), made.key.as_str()));
    let plain = Controller::start(Role::Leads);
    let liar = Controller::start_with(Role::Follows(Some(plain.address.clone())), tls);
    let leader = Controller::start_with(Role::Leads, tls);
    let controllers = Controllers::new(Settings {
        tls: Some(Tls { ca: Some(file(&folder, "ca.pem", &made.ca)), ..Tls::default() }),
        token_file: Some(file(&folder, "token", "t0ken")),
        ..settings(&[&liar, &leader])
    })
    .expect("settings");
    get_pool(&controllers, LONG).await.expect("an answer");
    assert_eq!((plain.calls(), liar.calls(), leader.calls()), (0, 1, 1));
}

#[tokio::test]
async fn a_certificate_of_another_name_or_another_ca_is_refused_unless_the_name_is_given() {
    let folder = TempDir::new().expect("a folder");
    let made = signed(&["controller.weir"]);
    let server = Controller::start_with(Role::Leads, Some((&made.certificate, &made.key)));
    let ca = Some(file(&folder, "ca.pem", &made.ca));
    let with = |tls: Tls| {
        Controllers::new(Settings { tls: Some(tls), ..settings(&[&server]) }).expect("settings")
    };
    let error = with(Tls { ca: ca.clone(), ..Tls::default() }).connect().await.expect_err("name");
    assert!(matches!(error, Error::Connect { .. }), "{error}");

    let other = Some(file(&folder, "other.pem", &signed(&["controller.weir"]).ca));
    let server_name = Some("controller.weir".to_owned());
    let tls = Tls { ca: other, server_name: server_name.clone(), ..Tls::default() };
    assert!(with(tls).connect().await.is_err());

    let tls = Tls { ca, server_name, ..Tls::default() };
    get_pool(&with(tls), LONG).await.expect("an answer");
}

#[tokio::test]
async fn a_renewed_token_is_read_for_the_next_connection() {
    let folder = TempDir::new().expect("a folder");
    let leader = Controller::start(Role::Leads);
    let token = file(&folder, "token", "old");
    let settings = Settings { token_file: Some(token.clone()), ..settings(&[&leader]) };
    let controllers = Controllers::new(settings).expect("settings");
    get_pool(&controllers, LONG).await.expect("an answer");
    std::fs::write(&token, "new").expect("written");
    leader.becomes(Role::Answers(tonic::Code::Unauthenticated));
    get_pool(&controllers, LONG).await.expect_err("the old token is not good any more");
    leader.becomes(Role::Leads);
    get_pool(&controllers, LONG).await.expect("an answer");
    assert_eq!(leader.authorization().as_deref(), Some("Bearer new"));
    // A renewal that went wrong does not cut us off.
    std::fs::remove_file(&token).expect("removed");
    leader.becomes(Role::Answers(tonic::Code::Unauthenticated));
    get_pool(&controllers, LONG).await.expect_err("refused");
    leader.becomes(Role::Leads);
    get_pool(&controllers, LONG).await.expect("an answer");
    assert_eq!(leader.authorization().as_deref(), Some("Bearer new"));
}

#[test]
fn settings_that_protect_nothing_are_refused() {
    let folder = TempDir::new().expect("a folder");
    let token_file = Some(file(&folder, "token", "t0ken"));
    let to = |endpoints: &[&str]| Settings::new(endpoints.iter().copied());

    assert_eq!(refused(to(&[])).split(':').next(), Some("endpoints"));
    let mixed = refused(to(&["https://a:1", "http://b:1"]));
    assert!(mixed.contains("https://a:1 and http://b:1"), "{mixed}");
    let clear =
        refused(Settings { token_file, ..to(&["http://127.0.0.1:1", "http://192.0.2.1:1"]) });
    assert!(clear.contains("http://192.0.2.1:1") && clear.contains("in clear"), "{clear}");
    let unused = refused(Settings { tls: Some(Tls::default()), ..to(&["http://127.0.0.1:1"]) });
    assert!(unused.contains("expected https"), "{unused}");
}

#[test]
fn an_error_names_the_file_and_not_what_is_in_it() {
    let folder = TempDir::new().expect("a folder");
    let made = signed(&["a"]);
    let other = signed(&["b"]);
    let missing = folder.path().join("missing.pem");
    let garbage = file(&folder, "garbage.pem", "s3cret s3cret");
    let empty = file(&folder, "empty", " \n");
    let ca = file(&folder, "ca.pem", &made.ca);
    let certificate = file(&folder, "certificate.pem", &made.certificate);
    let key = file(&folder, "key.pem", &made.key);
    let other_key = file(&folder, "other-key.pem", &other.key);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let broken = file(&folder, "broken.pem", broken);

    let tls = |ca: Option<&PathBuf>, certificate: Option<&PathBuf>, key: Option<&PathBuf>| {
        let (ca, certificate, key) = (ca.cloned(), certificate.cloned(), key.cloned());
        let tls = Some(Tls { ca, certificate, key, server_name: None });
        Settings { tls, ..Settings::new(["https://127.0.0.1:1"]) }
    };
    let token = |path: &PathBuf| Settings {
        token_file: Some(path.clone()),
        ..Settings::new(["http://127.0.0.1:1"])
    };
    for (settings, expected) in [
        (tls(Some(&missing), None, None), "ca"),
        (tls(Some(&garbage), None, None), "ca"),
        (tls(Some(&broken), None, None), "ca"),
        (tls(Some(&ca), Some(&missing), Some(&key)), "certificate"),
        (tls(Some(&ca), Some(&garbage), Some(&key)), "certificate"),
        (tls(Some(&ca), Some(&certificate), Some(&missing)), "key"),
        (tls(Some(&ca), Some(&certificate), Some(&garbage)), "key"),
        (token(&missing), "token_file"),
        (token(&empty), "token_file"),
        (token(&garbage), "token_file"),
    ] {
        let error = refused(settings);
        let start = format!("{expected} {}/", folder.path().display());
        assert!(error.starts_with(&start), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
    assert!(refused(tls(Some(&ca), Some(&certificate), None)).contains("without key"));
    assert!(refused(tls(Some(&ca), None, Some(&key))).contains("without certificate"));
    let mismatch = refused(tls(Some(&ca), Some(&certificate), Some(&other_key)));
    assert!(mismatch.starts_with("TLS towards https://127.0.0.1:1"), "{mismatch}");
    Controllers::new(tls(Some(&ca), Some(&certificate), Some(&key))).expect("all is well");
}
