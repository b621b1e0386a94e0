//! The part of the controller that listens, over real gRPC in one process: checkers, nodes, plans
//! and events.

#![forbid(unsafe_code)]

mod checker;
mod checkers;
mod events;
mod lab;
mod nodes;
mod plan;
mod streams;
