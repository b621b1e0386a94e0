//! The keys of a controller's file, section by section.

use super::build::*;
use super::{Fallback, Key, Kind, Reload, Section};

/// What stands at the top level.
pub(crate) static TOP: Section = Section {
    title: "",
    keys: &[&top::CONTROLLER, &top::REGISTRY, &top::TLS, &top::ACCESS, &top::LIMITS, &top::FLEET],
    reload: Reload::Restart,
};
/// `[controller]`
pub(crate) static CONTROLLER: Section = Section {
    title: "[controller]",
    keys: &[&own::NAME, &own::LISTEN, &own::HTTP, &own::ADVERTISE, &own::STATE_DIR],
    reload: Reload::Restart,
};
/// `[registry]`
pub(crate) static REGISTRY: Section = Section {
    title: "[registry]",
    keys: &[
        &registry::KIND,
        &registry::TIMEOUT_MS,
        &registry::PATH,
        &registry::ENDPOINTS,
        &registry::PREFIX,
        &registry::LEASE_SECONDS,
        &registry::COMPACT,
        &registry::CA,
        &registry::CERTIFICATE,
        &registry::KEY,
        &registry::SERVER_NAME,
        &registry::USER,
        &registry::PASSWORD_FILE,
    ],
    reload: Reload::Restart,
};
/// `[tls]`
pub(crate) static TLS: Section = Section {
    title: "[tls]",
    keys: &[&tls::CERTIFICATE, &tls::KEY, &tls::CLIENT_CA],
    reload: Reload::Restart,
};
/// `[[access]]`
pub(crate) static ACCESS: Section = Section {
    title: "[[access]]",
    keys: &[&access::NAME, &access::ROLE, &access::CERTIFICATE, &access::TOKEN_FILE],
    reload: Reload::Live,
};
/// `[limits]`
pub(crate) static LIMITS: Section = Section {
    title: "[limits]",
    keys: &[
        &limits::STREAMS,
        &limits::REQUEST_BYTES,
        &limits::REQUESTS_PER_SECOND,
        &limits::HEALTH_WINDOW,
    ],
    reload: Reload::Restart,
};
/// `[fleet]`
pub(crate) static FLEET: Section = Section {
    title: "[fleet]",
    keys: &[&fleet::CHECKERS_SILENT, &fleet::EVICTED_SHOWN],
    reload: Reload::Restart,
};

const LISTENER: &str = "loopback without `[tls]` and `[[access]]`";

/// Keys of the top level.
pub(crate) mod top {
    use super::*;
    pub(crate) static CONTROLLER: Key = key("controller", Kind::Table("[controller]"), ABSENT);
    pub(crate) static REGISTRY: Key = key("registry", Kind::Table("[registry]"), ABSENT);
    pub(crate) static TLS: Key = key("tls", Kind::Table("[tls]"), NONE);
    pub(crate) static ACCESS: Key = key("access", Kind::Tables("[[access]]"), NONE);
    pub(crate) static LIMITS: Key = key("limits", Kind::Table("[limits]"), ABSENT);
    pub(crate) static FLEET: Key = key("fleet", Kind::Table("[fleet]"), ABSENT);
}

/// Keys of `[controller]`.
pub(crate) mod own {
    use super::*;
    pub(crate) static NAME: Key = key("name", super::NAME, Fallback::Text("controller"));
    pub(crate) static LISTEN: Key = listener("listen", "127.0.0.1:9190").rule(LISTENER);
    pub(crate) static HTTP: Key = listener("http", "127.0.0.1:9191").rule(LISTENER);
    pub(crate) static ADVERTISE: Key = key(
        "advertise",
        Kind::Notation { what: "URL", example: "https://192.0.2.10:9190" },
        Fallback::Words("where `listen` is"),
    )
    .rule("`https` with `[tls]`, else `http`");
    pub(crate) static STATE_DIR: Key =
        file("state_dir", Fallback::Text("/var/lib/weir-controller"));
}

/// Keys of `[registry]`.
pub(crate) mod registry {
    use super::*;
    pub(crate) static KIND: Key = key(
        "kind",
        Kind::Choice { now: &["embedded", "etcd"], later: &[] },
        Fallback::Text("embedded"),
    );
    pub(crate) static TIMEOUT_MS: Key =
        integer("timeout_ms", 100, 60_000, Fallback::Integer(5000)).unit("milliseconds");
    pub(crate) static PATH: Key = file("path", Fallback::Words("`registry.redb` in `state_dir`"))
        .rule("an absolute path; embedded only");
    pub(crate) static ENDPOINTS: Key =
        key("endpoints", URLS, Fallback::Words("required with etcd")).rule(super::ENDPOINTS);
    pub(crate) static PREFIX: Key = key("prefix", Kind::Text, Fallback::Text("/weir/"))
        .rule("begins and ends with `/`; etcd only");
    pub(crate) static LEASE_SECONDS: Key =
        integer("lease_seconds", 2, 60, Fallback::Integer(5)).rule("etcd only").unit("seconds");
    pub(crate) static COMPACT: Key =
        key("compact", Kind::Boolean, Fallback::Boolean(true)).rule("etcd only");
    pub(crate) static CA: Key = file("ca", NONE).rule("an absolute path; with `https` only");
    pub(crate) static CERTIFICATE: Key =
        file("certificate", NONE).rule("an absolute path; together with `key`");
    pub(crate) static KEY: Key =
        file("key", NONE).rule("an absolute path; together with `certificate`");
    pub(crate) static SERVER_NAME: Key =
        key("server_name", HOST, Fallback::Words("the host of each endpoint"))
            .rule("with `https` only");
    pub(crate) static USER: Key =
        key("user", Kind::Text, NONE).rule("together with `password_file`");
    pub(crate) static PASSWORD_FILE: Key =
        file("password_file", NONE).rule("an absolute path; together with `user`");
}

/// Keys of `[tls]`.
pub(crate) mod tls {
    use super::*;
    pub(crate) static CERTIFICATE: Key = file("certificate", Fallback::Required);
    pub(crate) static KEY: Key = file("key", Fallback::Required);
    pub(crate) static CLIENT_CA: Key = file("client_ca", NONE);
}

/// Keys of `[[access]]`.
pub(crate) mod access {
    use super::*;
    pub(crate) static NAME: Key =
        key("name", super::ID, Fallback::Required).rule("one role for each");
    pub(crate) static ROLE: Key = key(
        "role",
        Kind::Choice { now: &["operator", "checker", "node", "viewer"], later: &[] },
        Fallback::Required,
    );
    pub(crate) static CERTIFICATE: Key = key("certificate", Kind::Text, NONE)
        .rule("this or `token_file`; 1 to 253 characters, unique");
    pub(crate) static TOKEN_FILE: Key =
        file("token_file", NONE).rule("an absolute path; this or `certificate`; unique");
}

/// Keys of `[limits]`.
pub(crate) mod limits {
    use super::*;
    pub(crate) static STREAMS: Key = integer("streams", 1, 65_536, Fallback::Integer(512));
    pub(crate) static REQUEST_BYTES: Key =
        integer("request_bytes", 65_536, 67_108_864, Fallback::Integer(4_194_304)).unit("bytes");
    pub(crate) static REQUESTS_PER_SECOND: Key =
        integer("requests_per_second", 1, 1_000_000, Fallback::Integer(200));
    pub(crate) static HEALTH_WINDOW: Key =
        integer("health_window", 16, 1_048_576, Fallback::Integer(4096)).unit("reports");
}

/// Keys of `[fleet]`.
pub(crate) mod fleet {
    use super::*;
    pub(crate) static CHECKERS_SILENT: Key = seconds("checkers_silent_seconds", 3, 15);
    pub(crate) static EVICTED_SHOWN: Key = seconds("evicted_shown_seconds", 1, 60);
}
