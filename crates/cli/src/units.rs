//! Numbers for people.

use std::time::Duration;

/// Bytes: `98.4 MB`, in powers of a thousand, as disks and downloads are sold.
pub(crate) fn bytes(n: u64) -> String {
    scaled(n as f64, &["B", "kB", "MB", "GB", "TB"], " ")
}

/// The way back: `900MB`, `1.5 GiB`, `12345`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 10] = [
        ("KIB", 1 << 10),
        ("MIB", 1 << 20),
        ("GIB", 1 << 30),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("K", 1000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("B", 1),
    ];
    let upper = text.trim().to_ascii_uppercase();
    let unit = UNITS.iter().find_map(|(name, factor)| Some((upper.strip_suffix(name)?, *factor)));
    let (number, factor) = unit.unwrap_or((&upper, 1));
    let number: f64 = number.trim().parse().map_err(|_| "write a size: 900MB or 1.5GiB".to_owned())?;
    let bytes = number * factor as f64;
    if (1.0..1e18).contains(&bytes) {
        Ok(bytes as u64)
    } else {
        Err("choose a size from 1 byte up".to_owned())
    }
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
        for (text, expected) in [
            ("900MB", Ok(900_000_000)),
            ("1.5 GiB", Ok(3 << 29)),
            ("12345", Ok(12_345)),
            ("2g", Ok(2_000_000_000)),
            ("7 B", Ok(7)),
            ("many", Err("write a size: 900MB or 1.5GiB".to_owned())),
            ("-1MB", Err("choose a size from 1 byte up".to_owned())),
        ] {
            assert_eq!(parse_bytes(text), expected, "{text}");
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
