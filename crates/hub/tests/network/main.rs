//! Registries and hubs on the wire, played by servers in this process. No network.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../fake/registry.rs"]
mod registry;
#[path = "../fake/server.rs"]
mod server;

mod catalog;
mod common;
mod hub;
mod pull;
mod push;
mod rules;
mod transfer;
