//! Numbers for people.

use std::time::Duration;

/// Bytes: `98.4 MB`, in powers of a thousand, as disks and downloads are sold.
pub(crate) fn bytes(n: u64) -> String {
    scaled(n as f64, &["B", "kB", "MB", "GB", "TB"], " ")
}

/// Memory: `93.8 MiB`, in powers of 1024.
pub(crate) fn memory(n: u64) -> String {
    let mut value = n as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1023.95 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    format!("{} {unit}", three(value, unit == "B"))
}

/// Parameters: `134.5M`.
pub(crate) fn count(n: u64) -> String {
    scaled(n as f64, &["", "k", "M", "B", "T"], "")
}

fn scaled(mut value: f64, units: &[&str], space: &str) -> String {
    let mut at = 0;
    while value >= 999.95 && at + 1 < units.len() {
        value /= 1000.0;
        at += 1;
    }
    format!("{}{space}{}", three(value, at == 0), units[at])
}

/// One decimal, two below ten, none for whole things.
fn three(value: f64, whole: bool) -> String {
    match value {
        v if whole => format!("{v:.0}"),
        v if v < 9.995 => format!("{v:.2}"),
        v => format!("{v:.1}"),
    }
}

/// A time: `12 ms`, `3.4 s`, `2 min 5 s`.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 0.9995 => format!("{:.0} ms", s * 1e3),
        s if s < 99.95 => format!("{s:.1} s"),
        s => format!("{} min {} s", s.round() as u64 / 60, s.round() as u64 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (n, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (98_362_432, "98.4 MB"),
            (999_999_999, "1.00 GB"),
            (1_117_320_768, "1.12 GB"),
            (12_345_678_901_234_567, "12345.7 TB"),
        ] {
            assert_eq!(bytes(n), expected);
        }
        for (n, expected) in
            [(1023, "1023 B"), (1024, "1.00 KiB"), (98_362_432, "93.8 MiB"), (1 << 30, "1.00 GiB")]
        {
            assert_eq!(memory(n), expected);
        }
        for (n, expected) in [(7, "7"), (134_515_008, "134.5M"), (1_543_714_304, "1.54B")] {
            assert_eq!(count(n), expected);
        }
        for (milliseconds, expected) in
            [(0, "0 ms"), (12, "12 ms"), (999, "999 ms"), (3400, "3.4 s"), (125_000, "2 min 5 s")]
        {
            assert_eq!(time(Duration::from_millis(milliseconds)), expected);
        }
    }
}
