//! What is said beside the data: on standard error, and lost without harm if nobody listens. (`eprintln!` panics there.)

/// A line on standard error.
macro_rules! note {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($what)*);
    }};
}

/// Text on standard error, without an end of line.
macro_rules! note_part {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stderr(), $($what)*);
    }};
}
