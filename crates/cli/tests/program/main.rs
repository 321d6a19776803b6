//! The program as its users meet it: the real binary, run on tiny models with known answers.

mod batch;
mod commands;
mod common;
mod refusals;
mod run;
