//! What the crate promises, checked from outside: pieces first, then whole pools, then the page
//! for operators.

#![forbid(unsafe_code)]

mod lab;

mod docs;
mod ejection_time;
mod laws;
mod outlier;
mod quorum;
mod stories;
mod tunnel;
