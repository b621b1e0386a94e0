//! `[controller]` in the file of a node or a checker: where the controllers are.

use super::build::{self, HOST, NONE, URLS, file, key};
use super::{Fallback, Key, Reload, Section};

/// `[controller]` of those who call one.
pub(crate) static CONTROLLER: Section = Section {
    title: "[controller]",
    keys: &[&ENDPOINTS, &CA, &CERTIFICATE, &KEY, &SERVER_NAME, &TOKEN_FILE],
    reload: Reload::Restart,
};

pub(crate) static ENDPOINTS: Key =
    key("endpoints", URLS, Fallback::Required).rule(build::ENDPOINTS);
pub(crate) static CA: Key = file("ca", NONE).rule("an absolute path; with `https` only");
pub(crate) static CERTIFICATE: Key =
    file("certificate", NONE).rule("an absolute path; together with `key`");
pub(crate) static KEY: Key =
    file("key", NONE).rule("an absolute path; together with `certificate`");
pub(crate) static SERVER_NAME: Key =
    key("server_name", HOST, Fallback::Words("the host of each endpoint"))
        .rule("with `https` only");
pub(crate) static TOKEN_FILE: Key = file("token_file", NONE);
