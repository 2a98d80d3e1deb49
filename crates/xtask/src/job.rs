//! One child process with its output in files, a deadline, and no way to be left behind.
//!
//! Invariant: dropping a job kills its process, so a failing test leaves nothing running.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);
/// Lines of a failed program's output that are shown.
const TAIL_LINES: usize = 25;

/// A running program.
#[derive(Debug)]
pub struct Job {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Job {
    /// Starts `command`; its output goes to `<dir>/<name>.out` and `<dir>/<name>.err`.
    pub fn spawn(name: &str, mut command: Command, dir: &Path) -> Result<Job, String> {
        fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let stdout = dir.join(format!("{name}.out"));
        let stderr = dir.join(format!("{name}.err"));
        let child = command
            .stdout(create(&stdout)?)
            .stderr(create(&stderr)?)
            .spawn()
            .map_err(|error| format!("{name}: {:?}: {error}", command.get_program()))?;
        Ok(Job { name: name.to_owned(), child, stdout, stderr })
    }

    /// The program's standard input, if it was piped.
    pub fn stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Whether the program has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end; standard output if the program succeeded, else the tail of both.
    pub fn wait(mut self, limit: Duration) -> Result<String, String> {
        let status = self.end(limit)?;
        let out = read(&self.stdout);
        if status.success() {
            return Ok(out);
        }
        let err = read(&self.stderr);
        Err(format!("{} ended with {status}\n{}{}", self.name, tail(&out), tail(&err)))
    }

    /// Waits for the end: what the program printed, however it ended, and whether it ended well.
    pub fn outcome(mut self, limit: Duration) -> (String, Result<(), String>) {
        let ended = self.end(limit).and_then(|status| {
            let failed = || format!("{} ended with {status}\n{}", self.name, tail(&self.stderr()));
            if status.success() { Ok(()) } else { Err(failed()) }
        });
        (read(&self.stdout), ended)
    }

    /// Asks the program to end with a signal it may answer, and waits: what it printed.
    pub fn terminate(mut self, limit: Duration) -> Result<String, String> {
        if self.is_running() {
            self.signal("TERM")?;
        }
        self.end(limit)?;
        Ok(read(&self.stdout))
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) -> Result<(), String> {
        signal(&self.child, name)
    }

    /// What the program wrote to standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What the program wrote to standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    fn end(&mut self, limit: Duration) -> Result<ExitStatus, String> {
        let start = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if start.elapsed() < limit => std::thread::sleep(POLL),
                Ok(None) => {
                    return Err(format!(
                        "{} still runs after {} s\n{}",
                        self.name,
                        limit.as_secs(),
                        tail(&read(&self.stderr))
                    ));
                }
                Err(error) => return Err(format!("{}: {error}", self.name)),
            }
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // Both fail harmlessly when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal by name; the standard library knows only SIGKILL.
pub fn signal(process: &Child, name: &str) -> Result<(), String> {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("kill -{name} {}", process.id())]);
    run("kill", &mut command)
}

/// Runs `command` with its output on the terminal.
pub fn run(name: &str, command: &mut Command) -> Result<(), String> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("{name}: {:?}: {error}", command.get_program()))?;
    if status.success() { Ok(()) } else { Err(format!("{name} ended with {status}")) }
}

/// Whether `program` is to be found.
pub fn exists(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|dir| dir.join(program).is_file())
}

/// The last lines of a text, each indented.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines[from..].iter().map(|line| format!("      {line}\n")).collect()
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn create(path: &Path) -> Result<File, String> {
    File::create(path).map_err(|error| format!("{}: {error}", path.display()))
}
