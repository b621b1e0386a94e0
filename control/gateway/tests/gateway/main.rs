//! The gateway on a real service: a controller in memory, called by HTTP and by gRPC.

mod calls;
mod certificates;
mod document;
mod hostile;
mod problems;
mod runbook;
mod secure;
mod service;
mod streams;
mod wire;
