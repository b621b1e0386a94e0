//! The admin interface, whole: requests go in at the router (or a socket), workers over ports in
//! memory do real work on real frames, and time is a number.

mod exposition;
mod flows;
mod health;
mod lab;
mod metrics;
mod pools;
mod server;
