//! The program as its users meet it: the real binary, run on tiny models with known answers.

mod batch;
#[cfg(unix)]
mod chat;
mod commands;
mod common;
mod created;
mod folders;
mod judged;
mod pulled;
mod quantize;
mod refusals;
#[expect(dead_code, clippy::unwrap_used, reason = "the hub's own tests use the rest")]
#[path = "../../../hub/tests/fake/registry.rs"]
mod registry;
mod run;
#[expect(dead_code, clippy::unwrap_used, reason = "the hub's own tests use the rest")]
#[path = "../../../hub/tests/fake/server.rs"]
mod server;
#[cfg(unix)]
mod terminal;
