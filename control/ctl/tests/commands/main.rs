//! Every command, as an operator types it, against a real controller in this process.

mod changes;
mod files;
mod fleet;
mod following;
mod secure;
mod support;
