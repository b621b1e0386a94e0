//! Decapsulator for the test lab.
fn main() {}
