//! The table of routes: which call answers which method and path.
//!
//! A parameter in braces is the request message's field of that name; further fields come from the
//! query for GET and DELETE, from the JSON body for POST and PATCH. A word after a colon is an
//! action on what stands before it. Everything else, the router, the OpenAPI document and the
//! tests, follows from this table.

use axum::http::Method;
use percent_encoding::percent_decode_str;

/// A call of `weir.v1.LBControlPlane` that has a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named as in the .proto file, which documents them")]
pub enum Rpc {
    RegisterBackend,
    DeregisterBackend,
    DrainBackend,
    UpdateBackend,
    GetBackend,
    ListBackends,
    WatchAssignments,
    CreatePool,
    UpdatePool,
    GetPool,
    ListPools,
    DeletePool,
    BindVipToPool,
    UnbindVip,
    ListVips,
    WatchPool,
    ListNodes,
    Plan,
    WatchEvents,
}

impl Rpc {
    /// The name in the `.proto` file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RegisterBackend => "RegisterBackend",
            Self::DeregisterBackend => "DeregisterBackend",
            Self::DrainBackend => "DrainBackend",
            Self::UpdateBackend => "UpdateBackend",
            Self::GetBackend => "GetBackend",
            Self::ListBackends => "ListBackends",
            Self::WatchAssignments => "WatchAssignments",
            Self::CreatePool => "CreatePool",
            Self::UpdatePool => "UpdatePool",
            Self::GetPool => "GetPool",
            Self::ListPools => "ListPools",
            Self::DeletePool => "DeletePool",
            Self::BindVipToPool => "BindVIPToPool",
            Self::UnbindVip => "UnbindVIP",
            Self::ListVips => "ListVIPs",
            Self::WatchPool => "WatchPool",
            Self::ListNodes => "ListNodes",
            Self::Plan => "Plan",
            Self::WatchEvents => "WatchEvents",
        }
    }
}

/// One line of the table.
#[derive(Debug)]
pub struct Route {
    /// The call.
    pub rpc: Rpc,
    /// GET, POST, PATCH or DELETE.
    pub method: Method,
    /// With parameters in braces.
    pub path: &'static str,
    /// What OpenAPI groups by.
    pub tag: &'static str,
}

const fn route(method: Method, path: &'static str, rpc: Rpc, tag: &'static str) -> Route {
    Route { rpc, method, path, tag }
}

/// Every route, in the order of the document.
pub static ROUTES: [Route; 20] = [
    route(Method::GET, "/v1/pools", Rpc::ListPools, "pools"),
    route(Method::POST, "/v1/pools", Rpc::CreatePool, "pools"),
    route(Method::GET, "/v1/pools/{pool_id}", Rpc::GetPool, "pools"),
    route(Method::PATCH, "/v1/pools/{pool_id}", Rpc::UpdatePool, "pools"),
    route(Method::DELETE, "/v1/pools/{pool_id}", Rpc::DeletePool, "pools"),
    route(Method::GET, "/v1/pools/{pool_id}/snapshots", Rpc::WatchPool, "nodes"),
    route(Method::GET, "/v1/snapshots", Rpc::WatchPool, "nodes"),
    route(Method::GET, "/v1/backends", Rpc::ListBackends, "backends"),
    route(Method::POST, "/v1/backends", Rpc::RegisterBackend, "backends"),
    route(Method::GET, "/v1/backends/{backend_id}", Rpc::GetBackend, "backends"),
    route(Method::PATCH, "/v1/backends/{backend_id}", Rpc::UpdateBackend, "backends"),
    route(Method::DELETE, "/v1/backends/{backend_id}", Rpc::DeregisterBackend, "backends"),
    route(Method::POST, "/v1/backends/{backend_id}:drain", Rpc::DrainBackend, "backends"),
    route(Method::GET, "/v1/vips", Rpc::ListVips, "vips"),
    route(Method::POST, "/v1/vips", Rpc::BindVipToPool, "vips"),
    route(Method::POST, "/v1/vips:unbind", Rpc::UnbindVip, "vips"),
    route(Method::GET, "/v1/nodes", Rpc::ListNodes, "nodes"),
    route(Method::GET, "/v1/assignments", Rpc::WatchAssignments, "checkers"),
    route(Method::POST, "/v1/plan", Rpc::Plan, "changes"),
    route(Method::GET, "/v1/events", Rpc::WatchEvents, "changes"),
];

/// Calls without a route, and why.
pub const NOT_ROUTED: [(&str, &str); 2] = [
    ("ReportHealth", "a stream in both directions, which HTTP/1.1 cannot carry: gRPC only"),
    ("ReportNode", "a stream in both directions, which HTTP/1.1 cannot carry: gRPC only"),
];

/// Fields by name, from the path.
pub(crate) type Parameters = Vec<(&'static str, String)>;

/// What answers a method and a path.
#[derive(Debug)]
pub(crate) enum Found {
    /// A route, and what stood in its braces.
    Route(&'static Route, Parameters),
    /// The path exists for these methods.
    OtherMethods(Vec<&'static Method>),
    /// No such path.
    Nothing,
}

pub(crate) fn find(method: &Method, path: &str) -> Found {
    let mut others = Vec::new();
    for route in &ROUTES {
        let Some(parameters) = parameters(route.path, path) else {
            continue;
        };
        if route.method == *method {
            return Found::Route(route, parameters);
        }
        others.push(&route.method);
    }
    if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others) }
}

/// Holds a path against a template, segment by segment.
fn parameters(template: &'static str, path: &str) -> Option<Parameters> {
    let (mut expected, mut given) = (template.split('/'), path.split('/'));
    let mut parameters = Vec::new();
    loop {
        match (expected.next(), given.next()) {
            (None, None) => return Some(parameters),
            (Some(expected), Some(given)) => match expected.strip_prefix('{') {
                None if expected == given => {}
                None => return None,
                Some(rest) => {
                    let (name, action) = rest.split_once('}')?;
                    let value = given.strip_suffix(action).filter(|value| !value.is_empty())?;
                    let value = percent_decode_str(value).decode_utf8().ok()?;
                    parameters.push((name, value.into_owned()));
                }
            },
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: Method, path: &str) -> String {
        match find(&method, path) {
            Found::Route(route, parameters) => format!("{:?} {parameters:?}", route.rpc),
            Found::OtherMethods(methods) => format!("{methods:?}"),
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn a_path_is_its_call() {
        for (method, path, expected) in [
            (Method::GET, "/v1/pools", "ListPools []"),
            (Method::GET, "/v1/pools/web", r#"GetPool [("pool_id", "web")]"#),
            (Method::GET, "/v1/pools/a%2Fb%20c", r#"GetPool [("pool_id", "a/b c")]"#),
            (Method::GET, "/v1/pools/w/snapshots", r#"WatchPool [("pool_id", "w")]"#),
            (Method::POST, "/v1/backends/h:1:drain", r#"DrainBackend [("backend_id", "h:1")]"#),
            (Method::GET, "/v1/backends/h:drain", r#"GetBackend [("backend_id", "h:drain")]"#),
            (Method::POST, "/v1/vips:unbind", "UnbindVip []"),
        ] {
            assert_eq!(found(method, path), expected, "{path}");
        }
    }

    #[test]
    fn other_paths_and_methods_are_told_apart() {
        for (method, path, expected) in [
            (Method::PUT, "/v1/pools", "[GET, POST]"),
            (Method::POST, "/v1/backends/h", "[GET, PATCH, DELETE]"),
            (Method::GET, "/v1/pools/", "nothing"),
            (Method::GET, "/v1/pools/a/b", "nothing"),
            (Method::GET, "/v1/pools/%ff", "nothing"),
            (Method::POST, "/v1/backends/:drain", "[GET, PATCH, DELETE]"),
            (Method::GET, "/v1/vips:bind", "nothing"),
            (Method::GET, "/v1", "nothing"),
        ] {
            assert_eq!(found(method, path), expected, "{path}");
        }
    }
}
