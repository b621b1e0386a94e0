//! `[controller]` of a node or a checker, as those who call controllers take it.

use client::{Settings, Tls};
use config::{ControllerClient, Endpoint};

/// Where the controllers are, and how to be known there.
pub(crate) fn settings(section: &ControllerClient) -> Settings {
    Settings {
        tls: section.tls.as_ref().map(|tls| Tls {
            ca: Some(tls.ca.clone()),
            certificate: tls.identity.as_ref().map(|identity| identity.certificate.clone()),
            key: tls.identity.as_ref().map(|identity| identity.key.clone()),
            server_name: tls.server_name.clone(),
        }),
        token_file: section.token_file.clone(),
        ..Settings::new(section.endpoints.iter().map(Endpoint::to_string))
    }
}
