//! What the kernel says about one thread: its state, its CPU time, the time it waited for a CPU.

use std::fs;

/// One look at `/proc/self/task/<tid>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// `R`, `S`, `D`, `T`, ... as in proc(5); ` `: the thread is gone.
    pub state: char,
    pub cpu_ns: u64,
    /// Time it was runnable and not running.
    pub delayed_ns: u64,
    /// The kernel function it sleeps in, if the kernel says.
    pub wchan: String,
}

/// What a thread did between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// On a CPU most of the time.
    Running,
    /// Runnable, and other threads had the CPU.
    Starved,
    /// In an uninterruptible sleep: a disk or a page fault.
    Uninterruptible,
    /// Stopped by a signal or a debugger.
    Stopped,
    Asleep,
}

impl Sample {
    pub fn of(thread: u32) -> Sample {
        let read = |name| fs::read_to_string(format!("/proc/self/task/{thread}/{name}"));
        let Ok(stat) = read("stat") else { return Sample { state: ' ', ..Sample::default() } };
        let times = read("schedstat").unwrap_or_default();
        let mut times = times.split(' ').map(|word| word.parse::<u64>().unwrap_or(0));
        Sample {
            state: state_of(&stat),
            cpu_ns: times.next().unwrap_or(0),
            delayed_ns: times.next().unwrap_or(0),
            wchan: read("wchan").unwrap_or_default().trim().to_owned(),
        }
    }

    /// `before`: an earlier look at the same thread; without one only the state speaks.
    pub fn since(&self, before: Option<&Sample>) -> Doing {
        match self.state {
            'D' => return Doing::Uninterruptible,
            'T' | 't' => return Doing::Stopped,
            _ => {}
        }
        let Some(before) = before else {
            return if self.state == 'R' { Doing::Running } else { Doing::Asleep };
        };
        let ran = self.cpu_ns.saturating_sub(before.cpu_ns);
        let delayed = self.delayed_ns.saturating_sub(before.delayed_ns);
        match self.state {
            'R' if delayed > ran => Doing::Starved,
            'R' => Doing::Running,
            _ => Doing::Asleep,
        }
    }
}

/// The third field of `stat`; the second, in parentheses, may hold anything.
fn state_of(stat: &str) -> char {
    let behind = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    behind.trim_start().chars().next().unwrap_or(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_found_behind_any_thread_name() {
        assert_eq!(state_of("7 (a) b) (c) D 1 2"), 'D');
        assert_eq!(state_of("7"), ' ');
        let own = Sample::of(crate::clock::thread_id());
        assert_eq!((own.state, own.since(None)), ('R', Doing::Running));
    }

    #[test]
    fn waiting_for_a_cpu_is_told_from_using_one() {
        let look =
            |state, cpu_ns, delayed_ns| Sample { state, cpu_ns, delayed_ns, ..Sample::default() };
        let before = look('R', 0, 0);
        assert_eq!(look('R', 90, 10).since(Some(&before)), Doing::Running);
        assert_eq!(look('R', 10, 90).since(Some(&before)), Doing::Starved);
        assert_eq!(look('S', 10, 90).since(Some(&before)), Doing::Asleep);
        assert_eq!(look('D', 10, 0).since(None), Doing::Uninterruptible);
        assert_eq!(look('T', 10, 0).since(Some(&before)), Doing::Stopped);
    }
}
