//! Free memory of the machine, of this process's control groups, and of a GPU.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::wait;

/// Bytes that this process may still take: what the machine has left, or its control group (the limit
/// of a container or of a batch system) if that is less. `None` where the system does not tell.
pub fn on_host() -> Option<u64> {
    let group = std::fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|membership| in_groups(Path::new("/sys/fs/cgroup"), &membership));
    [available(), group].into_iter().flatten().min()
}

/// What the kernel would give without swapping.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().ok()?;
    Some(kib * 1024)
}

/// Names of the files of one version of control groups.
struct Files {
    limit: &'static str,
    usage: &'static str,
    /// Line of `memory.stat` with the file cache that is given back first.
    cache: &'static str,
}

const VERSION_1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: "total_inactive_file",
};
const VERSION_2: Files =
    Files { limit: "memory.max", usage: "memory.current", cache: "inactive_file" };

/// The least that is left in the control groups of memory under `root`; `membership` is the text of
/// `/proc/self/cgroup`, lines `number:controllers:/path`.
fn in_groups(root: &Path, membership: &str) -> Option<u64> {
    let left = membership.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (root, files) = match controllers {
            "" => (root.to_owned(), VERSION_2),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), VERSION_1)
            }
            _ => return None,
        };
        // A limit holds for all groups below. In a container the path may be that of the host: then
        // only the root is there, and it is the container's own group.
        let groups = Path::new(path.trim_start_matches('/')).ancestors();
        let groups: Vec<PathBuf> = groups.map(|group| root.join(group)).collect();
        groups.iter().filter_map(|group| files.left(group)).min()
    });
    left.min()
}

impl Files {
    /// What is left in one group; `None` if it has no limit.
    fn left(&self, group: &Path) -> Option<u64> {
        let read = |name: &str| std::fs::read_to_string(group.join(name)).ok();
        let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
        let (limit, usage) = (number(self.limit)?, number(self.usage)?);
        let cache = read("memory.stat").and_then(|text| {
            let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
            pairs.find(|(name, _)| *name == self.cache)?.1.trim().parse().ok()
        });
        Some(limit.saturating_sub(usage.saturating_sub(cache.unwrap_or(0))))
    }
}

/// How long the driver's tool may take: it hangs where the driver does.
const PATIENCE: Duration = Duration::from_secs(10);

/// Free bytes of GPU `cuda:N` as the driver's tool tells, if it is there and answers in time.
/// `CUDA_VISIBLE_DEVICES` renumbers GPUs; with it the free memory is not known.
pub fn on_gpu(name: &str) -> Option<u64> {
    if std::env::var_os("CUDA_VISIBLE_DEVICES").is_some() {
        return None;
    }
    let index = name.strip_prefix("cuda:")?;
    let mut command = Command::new("nvidia-smi");
    command.args(["--query-gpu=memory.free", "--format=csv,noheader,nounits", "-i", index]);
    let mib: u64 = answer(command, PATIENCE)?.trim().parse().ok()?;
    Some(mib << 20)
}

/// What a tool says in at most 4 KiB, if it ends well within the limit of time.
fn answer(mut command: Command, patience: Duration) -> Option<String> {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = quiet.spawn().ok()?;
    let status = wait(&mut child, patience);
    if status.is_none() {
        // Both fail on a process that has just ended, which is as good.
        let _ = child.kill();
        let _ = child.wait();
    }
    if !status?.success() {
        return None;
    }
    let mut said = String::new();
    child.stdout.take()?.take(4 << 10).read_to_string(&mut said).ok()?;
    Some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("created");
            std::fs::write(path, text).expect("written");
        }
    }

    #[test]
    fn the_tightest_group_decides() {
        let dir = tempfile::tempdir().expect("temp dir");
        let root = dir.path();
        write(
            root,
            &[
                ("memory.max", "max\n"),
                ("job/memory.max", "1000\n"),
                ("job/memory.current", "700\n"),
                ("job/memory.stat", "anon 500\ninactive_file 150\n"),
                ("job/task/memory.max", "9000\n"),
                ("job/task/memory.current", "100\n"),
            ],
        );
        assert_eq!(in_groups(root, "0::/job/task\n"), Some(450));
        assert_eq!(in_groups(root, "0::/elsewhere\n"), None);
        assert_eq!(in_groups(root, "0::/\n"), None);
        // Version 1 beside it; no group of its own under the root, as in a container.
        write(
            root,
            &[
                ("memory/memory.limit_in_bytes", "500\n"),
                ("memory/memory.usage_in_bytes", "900\n"),
                ("memory/memory.stat", "inactive_file 9\ntotal_inactive_file 600\n"),
            ],
        );
        assert_eq!(in_groups(root, "4:cpu,memory:/host/only\n0::/job\n"), Some(200));
        assert_eq!(in_groups(root, "4:cpu:/job\n"), None);
        assert_eq!(in_groups(root, "damaged"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_memory() {
        assert!(on_host().is_some_and(|bytes| bytes > 1 << 20));
        assert_eq!(on_gpu("cpu"), None);
    }

    #[test]
    #[cfg(unix)]
    fn a_tool_that_hangs_is_not_waited_for() {
        let shell = |script: &str, patience| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            answer(command, Duration::from_millis(patience))
        };
        assert_eq!(shell("echo 81559", 10_000).as_deref(), Some("81559\n"));
        assert_eq!(shell("echo 5; exit 9", 10_000), None);
        assert_eq!(shell("echo 5; exec sleep 60", 50), None);
        assert_eq!(answer(Command::new("/no/such/tool"), PATIENCE), None);
    }
}
