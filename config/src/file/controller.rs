//! A controller's file: its sections, then who may call.

use super::{Document, reader, table_or_empty, tables, top};
use crate::model::{Access, ControllerConfig, Registry, Role, ServerTls, Store};
use crate::reader::{Reader, TableAt, label};
use crate::report::{Report, Reported};
use crate::schema::controller::{
    ACCESS, CONTROLLER, FLEET, LIMITS, REGISTRY, TLS, TOP, access, own as keys, top as names,
};
use crate::section::controller::Protection;
use crate::section::{controller, registry};
use std::collections::HashMap;

pub(super) fn read<'d>(
    report: &mut Report<'d>,
    document: Document<'d>,
) -> Result<ControllerConfig, Reported> {
    let mut top = top(report, &TOP, document);
    let mut table = |key| table_or_empty(&mut top, document, key);
    let controller = table(&names::CONTROLLER);
    let registry = table(&names::REGISTRY);
    let limits = table(&names::LIMITS);
    let fleet = table(&names::FLEET);
    let tls = top.table(&names::TLS);
    let access = tables(&mut top, &names::ACCESS);
    // A section that is wrong is there all the same: no listener is blamed for its lack.
    let protection = Protection {
        has_tls: top.is_present(&names::TLS),
        has_access: top.is_present(&names::ACCESS),
    };

    let is_named = controller.is_ok_and(|at| at.table.contains_key(keys::NAME.name));
    let controller =
        controller.and_then(|at| controller::read(reader(report, &CONTROLLER, at), protection));
    let state_dir = controller.as_ref().ok().map(|controller| controller.state_dir.as_path());
    let registry = registry.and_then(|at| {
        let registry = registry::read(reader(report, &REGISTRY, at), state_dir)?;
        warn_of_common_name(report, at.line, &registry, is_named);
        Ok(registry)
    });
    let tls = tls.and_then(|at| read_tls(report, at));
    // Certificates are not blamed for a [tls] that is wrong.
    let has_client_ca = match &tls {
        Ok(tls) => tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()),
        Err(Reported) => true,
    };
    let access = access.and_then(|tables| read_access(report, &tables, has_client_ca));
    let limits = limits.and_then(|at| controller::read_limits(reader(report, &LIMITS, at)));
    let fleet = fleet.and_then(|at| controller::read_fleet(reader(report, &FLEET, at)));

    Ok(ControllerConfig {
        controller: controller?,
        registry: registry?,
        tls: tls?,
        access: access?,
        limits: limits?,
        fleet: fleet?,
    })
}

fn read_tls<'d>(
    report: &mut Report<'d>,
    at: Option<TableAt<'d>>,
) -> Result<Option<ServerTls>, Reported> {
    let Some(at) = at else { return Ok(None) };
    controller::read_tls(reader(report, &TLS, at)).map(Some)
}

fn read_access<'d>(
    report: &mut Report<'d>,
    tables: &[TableAt<'d>],
    has_client_ca: bool,
) -> Result<Vec<Access>, Reported> {
    let before = report.problem_count();
    let mut entries: Vec<(Access, usize)> = Vec::with_capacity(tables.len());
    let (mut certificates, mut tokens) = (HashMap::new(), HashMap::new());
    for (index, &at) in tables.iter().enumerate() {
        let label = label("access", at, &access::NAME, index);
        let mut reader = Reader::new(report, &ACCESS, label, at);
        reader.unique(&access::CERTIFICATE, &mut certificates, "the entry");
        reader.unique(&access::TOKEN_FILE, &mut tokens, "the entry");
        let Ok(entry) = controller::read_access(&mut reader, has_client_ca) else { continue };
        // One caller may be known in two ways, by an old token and a new certificate.
        let other =
            entries.iter().find(|(other, _)| other.name == entry.name && other.role != entry.role);
        if let Some((other, line)) = other {
            let what = format!("is another role than \"{}\" at line {line}", other.role);
            reader.fault(&access::ROLE, &what, "one role for each name");
        }
        let line = reader.line_of(&access::ROLE);
        entries.push((entry, line));
    }
    let is_operator = |(access, _): &(Access, usize)| access.role == Role::Operator;
    if let (Some(first), false) = (tables.first(), entries.iter().any(is_operator)) {
        let message = "no [[access]] has the role \"operator\": nobody can change anything";
        report.warning(first.line, message.to_owned());
    }
    if report.problem_count() > before {
        return Err(Reported);
    }
    Ok(entries.into_iter().map(|(access, _)| access).collect())
}

/// Controllers of one etcd are told apart by their names.
fn warn_of_common_name(report: &mut Report<'_>, line: usize, registry: &Registry, is_named: bool) {
    if matches!(registry.store, Store::Etcd(_)) && !is_named {
        let message = "[registry] is etcd, and [controller] has no name: each controller of one \
                       etcd needs its own";
        report.warning(line, message.to_owned());
    }
}
