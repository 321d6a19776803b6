//! The program as its users meet it: the real binary, run on tiny models with known answers.

mod batch;
#[cfg(unix)]
mod chat;
mod commands;
mod common;
mod created;
mod folders;
mod quantize;
mod refusals;
mod run;
#[cfg(unix)]
mod terminal;
