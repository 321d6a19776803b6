//! What the machine is: CPU, memory, and how fast the memory can be read.
//!
//! Memory is known on Linux (`/proc/meminfo`, and the limits of control groups) and in total on macOS.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;
use std::time::Instant;

/// Bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// All that this process may use.
    pub(crate) total: u64,
    /// What could be used now without swapping.
    pub(crate) available: u64,
}

/// The memory, if this system tells.
pub(crate) fn memory() -> Option<Memory> {
    if cfg!(target_os = "macos") {
        let total = command("sysctl", &["-n", "hw.memsize"])?.parse().ok()?;
        return Some(Memory { total, available: total });
    }
    let facts = fs::read_to_string("/proc/meminfo").ok()?;
    let mut memory = Memory { total: field(&facts, "MemTotal")?, available: field(&facts, "MemAvailable")? };
    for (limit, used) in group_limits() {
        memory.total = memory.total.min(limit);
        memory.available = memory.available.min(limit.saturating_sub(used));
    }
    Some(memory)
}

/// Bytes in a line such as `MemTotal:  16384 kB`.
fn field(facts: &str, name: &str) -> Option<u64> {
    let line = facts.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Limit and use of every control group around this process that has a limit.
fn group_limits() -> Vec<(u64, u64)> {
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let read = |folder: &Path, limit: &str, used: &str| {
        Some((number(folder.join(limit))?, number(folder.join(used)).unwrap_or(0)))
    };
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, Some(group)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (root, limit, used) = match controllers {
            Some("") => ("/sys/fs/cgroup", "memory.max", "memory.current"),
            Some(list) if list.split(',').any(|c| c == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
            }
            _ => continue,
        };
        let root = Path::new(root);
        let folder = root.join(group.trim_start_matches('/'));
        // In a container the path may be that of the host; the root is then the group itself.
        let folders = folder.ancestors().take_while(|folder| folder.starts_with(root));
        limits.extend(folders.filter_map(|folder| read(folder, limit, used)));
    }
    limits
}

/// The CPU's own name.
pub(crate) fn cpu_name() -> Option<String> {
    if cfg!(target_os = "macos") {
        return command("sysctl", &["-n", "machdep.cpu.brand_string"]);
    }
    let facts = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = facts.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'))?;
    Some(line.1.trim().to_owned())
}

fn command(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Bytes per second that `threads` threads read together, the best of some rounds. The buffer is far larger than caches.
pub(crate) fn bandwidth(threads: usize, memory: Option<&Memory>) -> f64 {
    const ROUNDS: usize = 6;
    let most = memory.map_or(256 << 20, |memory| memory.available / 4);
    let n = (most.clamp(32 << 20, 1 << 30) as usize / size_of::<u64>()) / threads;
    let barrier = Barrier::new(threads);
    // One thread's view of a round: all begin together, and the round ends with the last.
    let work = || {
        // Written, so that real memory lies behind it, and by the thread that reads it.
        let data: Vec<u64> = (0..n as u64).collect();
        let mut best = f64::INFINITY;
        for _ in 0..ROUNDS {
            barrier.wait();
            let start = Instant::now();
            black_box(sum(black_box(&data)));
            barrier.wait();
            best = best.min(start.elapsed().as_secs_f64());
        }
        best
    };
    let best = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut best = work();
        for other in others {
            best = best.max(other.join().unwrap_or(0.0));
        }
        best
    });
    (n * size_of::<u64>() * threads) as f64 / best
}

/// Enough sums side by side that adding is never what is waited for.
fn sum(data: &[u64]) -> u64 {
    let mut lanes = [0u64; 32];
    for row in data.chunks_exact(lanes.len()) {
        for (lane, value) in lanes.iter_mut().zip(row) {
            *lane = lane.wrapping_add(*value);
        }
    }
    lanes.into_iter().fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        let facts = "MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:    1000 kB\nHugePages_Total: 3\n";
        for (name, expected) in [
            ("MemTotal", Some(16384 * 1024)),
            ("MemAvailable", Some(1_024_000)),
            ("HugePages_Total", None),
            ("Mem", None),
        ] {
            assert_eq!(field(facts, name), expected, "{name}");
        }
    }

    #[test]
    fn all_lanes_are_summed() {
        let data: Vec<u64> = (0..4096).collect();
        assert_eq!(sum(&data), 4095 * 4096 / 2);
    }

    #[test]
    fn bandwidth_is_a_speed() {
        let small = Memory { total: 1 << 30, available: 128 << 20 };
        let measured = bandwidth(2, Some(&small));
        assert!((1e7..1e14).contains(&measured), "{measured}");
    }
}
