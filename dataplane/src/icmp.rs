//! ICMP and ICMPv6 errors, both ways (RFC 792, RFC 1191, RFC 1812 section 4.3, RFC 4443).
//!
//! - **Errors that come to a VIP** are about a packet that a backend sent: under Direct Server
//!   Return its replies leave with the VIP as their source, and whoever cannot pass them on says so
//!   to the VIP. The error quotes the packet; [`quote`] reads the flow out of it, and the error
//!   goes where that flow's packets go. Without this, path MTU discovery of every reply is broken.
//! - **Errors of the node's own** are about a packet that it cannot pass on: too big once
//!   encapsulated, or out of hops. [`report`] makes them.
//!
//! Both are packets at a stranger's wish, so both have limits ([`limits`]): a budget for each
//! worker, and for those of the node's own a share of it for each source prefix.

pub mod limits;
pub mod quote;
pub mod report;
