//! Probes backends and reports to the controller.

#![forbid(unsafe_code)]
