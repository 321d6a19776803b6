//! Whit: cpu.
