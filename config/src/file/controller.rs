//! A controller's file: its sections, then who may call.

use super::{Document, reader, table_or_empty, tables, top};
use crate::model::{Access, ControllerConfig, Registry, Role, ServerTls, Store};
use crate::reader::{Reader, TableAt, label};
use crate::report::{Report, Reported};
use crate::schema::controller::{
    ACCESS, CONTROLLER, FLEET, LIMITS, REGISTRY, TLS, TOP, access, own as keys, top as names,
};
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
    // A [tls] that is wrong is one all the same: no listener is blamed for its lack.
    let has_tls = top.is_present(&names::TLS);
    let tls_line = top.line_of(&names::TLS);

    let is_named = controller.is_ok_and(|at| at.table.contains_key(keys::NAME.name));
    let controller =
        controller.and_then(|at| controller::read(reader(report, &CONTROLLER, at), has_tls));
    let state_dir = controller.as_ref().ok().map(|controller| controller.state_dir.as_path());
    let registry = registry.and_then(|at| {
        let registry = registry::read(reader(report, &REGISTRY, at), state_dir)?;
        warn_of_common_name(report, at.line, &registry, is_named);
        Ok(registry)
    });
    let tls = tls.and_then(|at| read_tls(report, at));
    let access = access.and_then(|tables| {
        read_access(report, &tables, tls.as_ref().ok().and_then(Option::as_ref))
    });
    let limits = limits.and_then(|at| controller::read_limits(reader(report, &LIMITS, at)));
    let fleet = fleet.and_then(|at| controller::read_fleet(reader(report, &FLEET, at)));

    if let Ok(access) = &access {
        check_callers(report, access, has_tls.then_some(tls_line))?;
    }
    Ok(ControllerConfig {
        controller: controller?,
        registry: registry?,
        tls: tls?,
        access: access?.into_iter().map(|(access, _)| access).collect(),
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

/// The entries, each with its line.
fn read_access<'d>(
    report: &mut Report<'d>,
    tables: &[TableAt<'d>],
    tls: Option<&ServerTls>,
) -> Result<Vec<(Access, usize)>, Reported> {
    let before = report.problem_count();
    let mut entries = Vec::with_capacity(tables.len());
    let (mut names, mut certificates, mut tokens) =
        (HashMap::new(), HashMap::new(), HashMap::new());
    for (index, &at) in tables.iter().enumerate() {
        let label = label("access", at, &access::NAME, index);
        let mut reader = Reader::new(report, &ACCESS, label, at);
        reader.unique(&access::NAME, &mut names, "the entry");
        reader.unique(&access::CERTIFICATE, &mut certificates, "the entry");
        reader.unique(&access::TOKEN_FILE, &mut tokens, "the entry");
        if let Ok(access) = controller::read_access(&mut reader, tls) {
            entries.push((access, at.line));
        }
    }
    if report.problem_count() == before { Ok(entries) } else { Err(Reported) }
}

/// Either everybody on this machine may do everything, or callers are listed and TLS keeps what
/// they show from others.
fn check_callers(
    report: &mut Report<'_>,
    access: &[(Access, usize)],
    tls_line: Option<usize>,
) -> Result<(), Reported> {
    match (tls_line, access.first()) {
        (None, Some((_, line))) => {
            let message = "[[access]] has no effect without [tls]: whoever can connect is an \
                           operator (expected [tls] too, or no [[access]])";
            Err(report.problem(*line, message.to_owned()))
        }
        (Some(line), None) => {
            let message = "[tls] without [[access]] lets nobody in (expected at least one \
                           [[access]])";
            Err(report.problem(line, message.to_owned()))
        }
        (Some(_), Some((_, line))) => {
            if !access.iter().any(|(access, _)| access.role == Role::Operator) {
                let message = "no [[access]] has the role \"operator\": nobody can change anything";
                report.warning(*line, message.to_owned());
            }
            Ok(())
        }
        (None, None) => Ok(()),
    }
}

/// Controllers of one etcd are told apart by their names.
fn warn_of_common_name(report: &mut Report<'_>, line: usize, registry: &Registry, is_named: bool) {
    if matches!(registry.store, Store::Etcd(_)) && !is_named {
        let message = "[registry] is etcd, and [controller] has no name: each controller of one \
                       etcd needs its own";
        report.warning(line, message.to_owned());
    }
}
