//! Whit: shrink. Models from one form into another.
//!
//! Today: conversion of a Hugging Face model folder to a GGUF file ([`to_gguf`]) and back ([`to_folder`]), and of either into fewer
//! bits ([`quantize()`]). All go through the weights as a stream and hold no more than one tensor; what they write appears under its
//! name when it is whole. [`calibrate`] learns from a text which columns of the weights count ([`Imatrix`]).
#![forbid(unsafe_code)]

mod convert;
mod error;
mod imatrix;
mod quantize;

pub use convert::{Converted, Format, Progress, to_folder, to_gguf};
pub use error::ShrinkError;
pub use imatrix::{
    CalibrationOptions, CalibrationProgress, ColumnSums, Imatrix, calibrate, calibrate_on_tokens,
};
pub use quantize::{
    Budget, BudgetProgress, Choice, Fitted, Formats, Mix, QuantizeOptions, QuantizeProgress, Quantized,
    TensorRule, fit_budget, format_named, plan_quantize, quantize,
};

/// A text of many kinds (stories, instructions, arithmetic, code, data, letters, four languages) of some 2,300 tokens, to see on what
/// quantizing cost where no better text is at hand.
pub const SAMPLE_TEXT: &str = include_str!("sample.txt");
