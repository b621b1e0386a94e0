//! The operator's command line of the control plane.

#![forbid(unsafe_code)]
