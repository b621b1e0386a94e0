//! A whole fleet on one machine: a controller, checkers, nodes and backends, and who measures it.
//!
//! ```text
//!  operator ──gRPC──▶ weir controller ──▶ 12 nodes without ports (threads of this process)
//!                        ▲  (a process,      │ observed each millisecond
//!                        │   redb on disk)   ▼
//!  backends ◀─probes─ 6 × weir checker    tables in force
//!  (listeners of this process, each of which can refuse or swallow)
//! ```
//!
//! Everything between the operator's call and the published tables is what ships; only the nodes'
//! ports are left out. [`scale`] measures changes, [`ejection`] deaths of backends.

mod assembly;
mod backends;
pub mod ejection;
mod figures;
mod metrics;
mod observer;
mod operator;
mod processes;
pub mod scale;

pub use assembly::{Places, Size};
