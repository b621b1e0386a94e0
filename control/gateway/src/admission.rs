//! Who is there, asked before a body is read.
//!
//! The service asks again, and asks for the role; this is here so that strangers cannot make the
//! gateway hold bodies for them, and so that a page in an operator's browser cannot use what the
//! browser can reach: an interface on loopback without entries, or the operator's certificate.

use std::net::IpAddr;

use access::Access;
use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use tonic::Status;

use crate::problem::Problem;

pub(crate) fn check(access: &Access, head: &Parts) -> Result<(), Problem> {
    let host = header(&head.headers, HOST);
    if let Some(origin) = header(&head.headers, ORIGIN) {
        let own = origin.split_once("://").map(|(_, authority)| authority);
        if own.is_none() || own != host {
            return Err(Status::permission_denied(format!(
                "origin: a page of {origin:?} may not use this interface"
            ))
            .into());
        }
    }
    // A name of somebody's own that resolves to 127.0.0.1 would make its page one of this origin.
    if let (true, Some(host)) = (access.is_open(), host)
        && !is_local(host)
    {
        return Err(Status::permission_denied(format!(
            "host: {host:?} is not this machine: expected localhost or a loopback address, where \
             no access entries are configured"
        ))
        .into());
    }
    access.http_caller(head)?;
    Ok(())
}

fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

/// `localhost`, or a loopback address, with or without a port.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    name.is_some_and(|name| {
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn admitted(host: Option<&str>, origin: Option<&str>) -> bool {
        let access = Access::open("127.0.0.1:1".parse().unwrap()).unwrap();
        let mut request = Request::get("/v1/pools");
        for (name, value) in [(HOST, host), (ORIGIN, origin)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        check(&access, &request.body(()).unwrap().into_parts().0).is_ok()
    }

    #[test]
    fn pages_of_others_are_kept_out() {
        for host in ["localhost", "localhost:9191", "127.0.0.1:9191", "127.9.9.9", "[::1]:9191"] {
            assert!(admitted(Some(host), None), "{host}");
            assert!(admitted(Some(host), Some(&format!("http://{host}"))), "{host}");
            assert!(!admitted(Some(host), Some("http://evil.example")), "{host}");
            assert!(!admitted(Some(host), Some("null")), "{host}");
        }
        for host in ["evil.example", "evil.example:9191", "127.0.0.1.evil.example", "", "[::2]"] {
            assert!(!admitted(Some(host), None), "{host}");
        }
        assert!(admitted(None, None));
        assert!(!admitted(None, Some("http://evil.example")));
    }
}
