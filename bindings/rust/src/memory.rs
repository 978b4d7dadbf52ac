//! How much memory there is. The kernel would answer a segment that does not fit with its OOM killer instead of an error.

use std::io;
use std::path::Path;

use crate::create::no_space;
use crate::error::Result;
use crate::sys;

/// Free and total bytes of the file system of a directory.
pub(crate) fn room(dir: &Path) -> Option<(u64, u64)> {
    let path = sys::c_path(dir).ok()?;
    let mut s = sys::Statfs::default();
    // SAFETY: the structure is at least as large as the kernel's.
    if unsafe { sys::statfs(path.as_ptr(), &mut s) } != 0 {
        return None;
    }
    Some((s.available * s.block as u64, s.blocks * s.block as u64))
}

/// Refuses what is larger than what the machine and the memory cgroups of this process have left. What cannot be found out is left out.
pub(crate) fn enough(need: u64, dir: &Path) -> Result<()> {
    let table = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let swap = number(&table, "SwapFree:").map_or(0, |k| k << 10);
    let machine = number(&table, "MemAvailable:").map(|k| (k << 10) + swap);
    let groups = cgroup_room().map(|free| free + swap);
    if machine.into_iter().chain(groups).any(|free| need > free) {
        return Err(no_space("reserve", dir, need, io::Error::from_raw_os_error(sys::ENOMEM)));
    }
    Ok(())
}

/// The number behind a name in a table of lines.
fn number(table: &str, name: &str) -> Option<u64> {
    table.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

/// What the tightest memory cgroup (version 2) above this process has left.
fn cgroup_room() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    let read = |dir: &Path, file: &str| std::fs::read_to_string(dir.join(file)).ok();
    root.join(group)
        .ancestors()
        .take_while(|dir| dir.starts_with(root))
        .filter_map(|dir| {
            let limit: u64 = read(dir, "memory.max")?.trim().parse().ok()?;
            let used: u64 = read(dir, "memory.current")?.trim().parse().ok()?;
            let stat = read(dir, "memory.stat")?;
            let cache = number(&stat, "inactive_file ").unwrap_or(0) + number(&stat, "active_file ").unwrap_or(0);
            Some(limit.saturating_sub(used.saturating_sub(cache)))
        })
        .min()
}
