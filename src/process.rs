//! Child processes with a limit of time.

use std::process::{Child, ExitStatus};
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
