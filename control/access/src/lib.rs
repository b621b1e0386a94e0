//! Who calls the control plane, and what they may: certificates, tokens, roles.

#![forbid(unsafe_code)]
