//! Child processes: a limit of time, groups of their own, and an end for all that they have started.
//!
//! A child leads a process group, so that Ctrl-C reaches this process alone, which then ends its
//! children in order. Where a child is a script that starts a program (`sh run.sh`, `uv run`), killing
//! the child leaves the program. So a whole group is killed, and what has left its group is found as a
//! descendant in `/proc`: a process that [`adopt_orphans`] becomes the parent of descendants whose own
//! parent has ended, so none is lost.

use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Waits for the end of a process for so long.
pub fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let started = Instant::now();
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if started.elapsed() >= patience {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What happens to a child when this process is gone, however that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orphaned {
    /// It is asked to end (SIGTERM): it has children of its own and ends them ([`end_when_asked`]).
    Asked,
    /// It is killed.
    Killed,
}

/// Gives the child that `command` starts a group of its own and an end with this process (which
/// only Linux knows).
#[cfg(unix)]
pub fn contain(command: &mut Command, orphaned: Orphaned) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
    let signal = match orphaned {
        Orphaned::Asked => libc::SIGTERM,
        Orphaned::Killed => libc::SIGKILL,
    };
    #[cfg(target_os = "linux")]
    {
        let parent = std::process::id();
        // SAFETY: prctl, getppid and _exit are async-signal-safe, and nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, signal);
                if libc::getppid() as u32 != parent {
                    libc::_exit(1);
                }
                Ok(())
            });
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = signal;
}

#[cfg(not(unix))]
pub fn contain(_command: &mut Command, _orphaned: Orphaned) {}

/// Asks a child to end (SIGTERM), as [`end_when_asked`] understands it.
#[cfg(unix)]
pub fn ask_to_end(child: &Child) {
    signal(child.id() as i32, libc::SIGTERM);
}

#[cfg(not(unix))]
pub fn ask_to_end(_child: &Child) {}

/// Asks a child of [`contain`] to end, gives it so long, and kills what is left.
pub fn stop(child: &mut Child, patience: Duration) {
    if matches!(child.try_wait(), Ok(None)) {
        ask_to_end(child);
        wait(child, patience);
    }
    kill(child);
}

/// Kills a child of [`contain`], its group and its descendants, and waits for it.
pub fn kill(child: &mut Child) {
    // Before the child ends, since its descendants then have another parent.
    let left = match child.try_wait() {
        Ok(None) => descendants(child.id(), &[]),
        _ => Vec::new(),
    };
    // All fail on processes that have ended, which is what is wanted.
    #[cfg(unix)]
    {
        signal(-(child.id() as i32), libc::SIGKILL);
        left.iter().for_each(|found| signal(found.id as i32, libc::SIGKILL));
    }
    #[cfg(not(unix))]
    drop(left);
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(unix)]
fn signal(process: i32, signal: libc::c_int) {
    // SAFETY: kill has no memory to corrupt; whom it reaches is for the callers to know.
    unsafe {
        libc::kill(process, signal);
    }
}

/// From now on this process is the parent of descendants whose own parent has ended.
pub fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    // SAFETY: it sets one flag of this process.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    }
}

/// Rounds in which descendants are looked for, a hundredth of a second apart: what is killed may have
/// started another before.
const ROUNDS: u32 = 200;

/// Kills all descendants of this process, except the children `spared` and their descendants. After
/// [`adopt_orphans`] that is everything that this process, or an ended child, has started.
pub fn end_descendants(spared: &[u32]) {
    for _ in 0..ROUNDS {
        let found = descendants(std::process::id(), spared);
        #[cfg(unix)]
        for process in &found {
            if process.ended {
                reap(process.id);
            } else {
                signal(process.id as i32, libc::SIGKILL);
            }
        }
        if found.iter().all(|process| process.ended) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Forgets an ended child that nobody waits for.
#[cfg(unix)]
fn reap(child: u32) {
    // SAFETY: a null status is permitted; it fails on what is not a child of this process.
    unsafe {
        libc::waitpid(child as i32, std::ptr::null_mut(), libc::WNOHANG);
    }
}

/// Whether [`end_when_asked`] has been asked.
static ASKED: AtomicBool = AtomicBool::new(false);

/// What a process with [`end_when_asked`] does last: kills all descendants. If it was asked to end, it
/// leaves that to who was asked, so that its exit code tells of the signal and not of a child that
/// was killed under its eyes.
pub fn end() {
    while ASKED.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(10));
    }
    end_descendants(&[]);
}

/// On SIGINT or SIGTERM: kills all descendants and ends this process with 128 and the signal's number,
/// as shells do.
///
/// # Errors
/// Handlers that cannot be set.
pub fn end_when_asked() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                ASKED.store(true, Ordering::SeqCst);
                end_descendants(&[]);
                // At once: other threads may be in the middle of anything.
                signal_hook::low_level::exit(128 + signal);
            }
        });
    }
    Ok(())
}

/// A descendant of a process.
#[derive(Debug, PartialEq, Eq)]
struct Descendant {
    id: u32,
    /// Ended, but not waited for.
    ended: bool,
}

/// The descendants of process `root` but for `spared` and theirs; none where there is no `/proc`.
fn descendants(root: u32, spared: &[u32]) -> Vec<Descendant> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let processes: Vec<(u32, u32, bool)> = entries
        .flatten()
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let (ended, parent) = state(&std::fs::read_to_string(entry.path().join("stat")).ok()?)?;
            Some((id, parent, ended))
        })
        .collect();
    let mut found: Vec<Descendant> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for (id, _, ended) in processes.iter().filter(|(_, of, _)| *of == parent) {
            if !spared.contains(id) {
                found.push(Descendant { id: *id, ended: *ended });
                parents.push(*id);
            }
        }
    }
    found
}

/// Whether a process has ended, and its parent, from the text of `/proc/ID/stat`: `ID (NAME) STATE
/// PARENT …`, where the name may hold anything.
fn state(stat: &str) -> Option<(bool, u32)> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let ended = matches!(fields.next()?, "Z" | "X");
    Some((ended, fields.next()?.parse().ok()?))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    use super::*;

    #[test]
    fn states_are_read_whatever_the_name() {
        assert_eq!(state("12 (sh) S 7 12 12"), Some((false, 7)));
        assert_eq!(state("12 (a) Z 1 (b) Z 7 12 12"), Some((true, 7)));
        assert_eq!(state("12 (sh"), None);
    }

    /// A shell in a group of its own with two children: one in its group, one that has left it.
    fn family(script: &str) -> (Child, Vec<u32>) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        contain(&mut command, Orphaned::Killed);
        let mut child = command.spawn().expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ids = lines.take(2).map(|line| line.expect("a line").trim().parse().expect("an id"));
        let ids = ids.collect();
        (child, ids)
    }

    const FAMILY: &str = "sleep 300 & echo $!; setsid sh -c 'echo $$; exec sleep 300' & wait";

    fn runs(id: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"));
        stat.ok().and_then(|stat| state(&stat)).is_some_and(|(ended, _)| !ended)
    }

    fn all_end(ids: &[u32]) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while ids.iter().any(|id| runs(*id)) {
            assert!(Instant::now() < deadline, "{ids:?} still run");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn killing_a_child_ends_what_it_has_started() {
        let (mut child, ids) = family(FAMILY);
        assert!(ids.iter().all(|id| runs(*id)));
        kill(&mut child);
        all_end(&ids);
    }

    #[test]
    fn stopping_a_child_asks_first_and_does_not_ask_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("asked");
        let trap = format!("trap 'echo yes > {}; exit 0' TERM; {FAMILY}", path.display());
        let (mut child, ids) = family(&trap);
        stop(&mut child, Duration::from_secs(20));
        assert_eq!(std::fs::read_to_string(&path).expect("was asked"), "yes\n");
        // What is in its group ends even if it did not see to that.
        all_end(&ids[..1]);
        signal(ids[1] as i32, libc::SIGKILL);
        let (mut child, ids) = family(&format!("trap '' TERM; {FAMILY}"));
        let started = Instant::now();
        stop(&mut child, Duration::from_millis(100));
        assert!(started.elapsed() < Duration::from_secs(10));
        all_end(&ids);
    }

    #[test]
    fn patience_may_be_any() {
        let mut child = Command::new("true").spawn().expect("starts");
        assert!(wait(&mut child, Duration::MAX).is_some_and(|status| status.success()));
    }
}
