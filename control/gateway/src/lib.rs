//! The control plane's calls as HTTP and JSON, with their OpenAPI document.

#![forbid(unsafe_code)]
