//! Registries and hubs on the wire, played by servers in this process. No network.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[expect(dead_code, reason = "pulls will need the rest")]
#[path = "../fake/registry.rs"]
mod registry;
#[expect(dead_code, reason = "pulls will need the rest")]
#[path = "../fake/server.rs"]
mod server;

mod common;
mod push;
mod rules;
