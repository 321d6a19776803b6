//! The server as its clients meet it: started on a port of the system's choice, with tiny models whose answers are known,
//! and spoken to over plain sockets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod conversations;
mod drafts;
mod embed;
mod encoders;
mod faults;
mod guards;
mod infill;
mod limits;
mod log;
mod mistakes;
mod models;
mod ollama;
mod own;
mod push;
#[expect(dead_code, reason = "the hub's own tests use the rest")]
#[path = "../../../hub/tests/fake/registry.rs"]
mod registry;
mod room;
#[expect(dead_code, reason = "the hub's own tests use the rest")]
#[path = "../../../hub/tests/fake/server.rs"]
mod server;
mod shutdown;
mod tls;
