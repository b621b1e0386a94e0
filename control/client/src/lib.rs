//! How nodes, checkers and operators reach the controller that leads.

#![forbid(unsafe_code)]
