//! How much memory models may take where nobody has said.
//!
//! Linux: what `/proc/meminfo` calls available, within the limit of the control group at the root (a container's own).
//! Elsewhere nothing is known, and nothing is refused.

use std::fs;

/// Bytes that could be used now without swapping, if this system tells.
pub(super) fn available() -> Option<u64> {
    let available = parse(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let number = |file: &str| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let of_group = |limit: &str, used: &str| Some(number(limit)?.saturating_sub(number(used).unwrap_or(0)));
    let group = of_group("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current").or_else(|| {
        let root = "/sys/fs/cgroup/memory/memory";
        of_group(&format!("{root}.limit_in_bytes"), &format!("{root}.usage_in_bytes"))
    });
    Some(group.map_or(available, |group| group.min(available)))
}

fn parse(facts: &str) -> Option<u64> {
    let line = facts.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo() {
        let cases = [
            ("MemTotal:  16 kB\nMemAvailable:    8 kB\n", Some(8192)),
            ("MemTotal:  16 kB\n", None),
            ("MemAvailable: many kB\n", None),
            ("MemAvailable: 18446744073709551615 kB\n", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
