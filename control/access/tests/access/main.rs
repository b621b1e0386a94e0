//! The listeners with real certificates, servers and clients.

mod common;
mod grpc;
mod http;
