//! The rooms the brokers live in: a network namespace each, joined by a bridge in the namespace
//! where the test and its clients run; and what can be done to packets and processors.
//!
//! Invariant: everything made here goes when its value does, and if nobody is left to drop it,
//! with the last process of the namespace. Control groups are swept by their starter's id.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::needs;
use crate::cluster::Home;

/// Names of control groups begin so, and end with the process id of whoever started the run.
const PREFIX: &str = "glasslog-chaos-";

/// A network namespace, held open by a process that ends when its standard input does.
struct Room {
    holder: Child,
}

/// Three rooms on one bridge.
pub struct Lab {
    rooms: Vec<Room>,
}

impl Lab {
    /// Joins `count` new rooms to a bridge in this process's own network namespace.
    pub fn new(count: u8) -> Result<Lab, String> {
        ip("link set lo up")?;
        ip("link add hub type bridge")?;
        ip("addr add 10.77.0.254/24 dev hub")?;
        ip("link set hub up")?;
        let mut lab = Lab { rooms: Vec::new() };
        for id in 1..=count {
            let holder = Command::new("unshare")
                .args(["--net", "cat"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .map_err(|error| format!("unshare: {error}"))?;
            let pid = holder.id();
            lab.rooms.push(Room { holder });
            wait_apart(pid)?;
            ip(&format!("link add port{id} type veth peer name eth0 netns {pid}"))?;
            ip(&format!("link set port{id} master hub up"))?;
            lab.run(id.into(), "ip", &["link", "set", "lo", "up"])?;
            let address = format!("{}/24", host(id.into()));
            lab.run(id.into(), "ip", &["addr", "add", &address, "dev", "eth0"])?;
            lab.run(id.into(), "ip", &["link", "set", "eth0", "up"])?;
        }
        Ok(lab)
    }

    /// Where each broker is to live.
    pub fn homes(&self) -> Vec<Home> {
        let home = |(id, _)| Home { host: host(id), prefix: self.enter(id) };
        (1..).zip(&self.rooms).map(home).collect()
    }

    /// The words that start a program in a broker's room.
    pub fn enter(&self, id: i32) -> Vec<String> {
        let room = &self.rooms[usize::try_from(id - 1).expect("an id")];
        vec!["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", room.holder.id())]
    }

    fn run(&self, id: i32, program: &str, args: &[&str]) -> Result<(), String> {
        let words = self.enter(id);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program).args(args);
        quiet(command)
    }

    /// Drops what a broker sends to `others`, what it hears from them, or both.
    pub fn cut(&self, id: i32, others: &[i32], sends: bool, hears: bool) -> Result<(), String> {
        let hosts: Vec<String> = others.iter().map(|other| host(*other).to_string()).collect();
        let hosts = hosts.join(", ");
        let mut rules = String::from(TABLE);
        if sends {
            rules.push_str(&format!("add rule inet chaos out ip daddr {{ {hosts} }} drop; "));
        }
        if hears {
            rules.push_str(&format!("add rule inet chaos in ip saddr {{ {hosts} }} drop; "));
        }
        self.run(id, "nft", &[&rules])
    }

    /// Loses a share of the packets that arrive at a broker, from anybody.
    pub fn lose(&self, id: i32, percent: u8) -> Result<(), String> {
        let rule = "add rule inet chaos in iifname \"eth0\" numgen random mod 100 <";
        self.run(id, "nft", &[&format!("{TABLE} {rule} {percent} drop")])
    }

    /// Ends what [`Lab::cut`] and [`Lab::lose`] began.
    pub fn mend(&self, id: i32) -> Result<(), String> {
        self.run(id, "nft", &["delete table inet chaos"])
    }
}

const TABLE: &str = "add table inet chaos; \
    add chain inet chaos in { type filter hook input priority 0; }; \
    add chain inet chaos out { type filter hook output priority 0; }; ";

impl Drop for Room {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        // Both fail harmlessly when it has ended by itself.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The other ends of its ports go with the rooms.
        let _ = ip("link delete hub");
    }
}

/// A control group with a share of one processor.
pub struct Quota(PathBuf);

impl Quota {
    /// Whether this machine has such groups and lets us make them.
    pub fn possible() -> Result<(), String> {
        let (root, version) = needs::cpu_groups().ok_or("no control group for processor time")?;
        let quota = Quota(root.join(format!("{PREFIX}{}", std::process::id())));
        fs::create_dir_all(&quota.0).map_err(|error| format!("{}: {error}", quota.0.display()))?;
        let limit = quota.0.join(if version == 2 { "cgroup.procs" } else { "cpu.cfs_quota_us" });
        let missing = || format!("this kernel has no {}", limit.display());
        limit.exists().then_some(()).ok_or_else(missing)
    }

    /// Holds a process to `percent` of one processor. `owner` is the process id of the run.
    pub fn new(owner: u32, pid: u32, percent: u32) -> Result<Quota, String> {
        const PERIOD_US: u32 = 100_000;
        let (root, version) = needs::cpu_groups().ok_or("no control group for processor time")?;
        let quota = Quota(root.join(format!("{PREFIX}{owner}")));
        let write = |path: PathBuf, text: String| {
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        if version == 2 {
            write(root.join("cgroup.subtree_control"), "+cpu".to_owned())?;
        }
        fs::create_dir_all(&quota.0).map_err(|error| error.to_string())?;
        let allowed = PERIOD_US / 100 * percent;
        if version == 2 {
            write(quota.0.join("cpu.max"), format!("{allowed} {PERIOD_US}"))?;
        } else {
            write(quota.0.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
            write(quota.0.join("cpu.cfs_quota_us"), allowed.to_string())?;
        }
        write(quota.0.join("cgroup.procs"), pid.to_string())?;
        Ok(quota)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        empty(&self.0);
    }
}

/// Gives a group's processes back to its parent and removes it.
fn empty(group: &std::path::Path) {
    let parent = group.parent().expect("a group below the root").join("cgroup.procs");
    for pid in fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
        let _ = fs::write(&parent, pid);
    }
    let _ = fs::remove_dir(group);
}

/// Removes control groups of runs whose starter is gone, and of this one.
pub fn sweep() {
    let Some((root, _)) = needs::cpu_groups() else { return };
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(owner) = name.strip_prefix(PREFIX).and_then(|pid| pid.parse::<u32>().ok()) else {
            continue;
        };
        let alive = PathBuf::from(format!("/proc/{owner}")).exists();
        if !alive || owner == std::process::id() {
            empty(&entry.path());
        }
    }
}

/// The address of a broker.
pub fn host(id: i32) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, u8::try_from(id).expect("a small id"))
}

/// `unshare` is a moment in our namespace before it is in its own.
fn wait_apart(pid: u32) -> Result<(), String> {
    let ours = fs::read_link("/proc/self/ns/net").map_err(|error| error.to_string())?;
    for _ in 0..200 {
        let theirs = fs::read_link(format!("/proc/{pid}/ns/net"));
        if theirs.is_ok_and(|theirs| theirs != ours) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Err("unshare made no network namespace".to_owned())
}

fn ip(words: &str) -> Result<(), String> {
    let mut command = Command::new("ip");
    command.args(words.split(' '));
    quiet(command)
}

/// Runs a program that says something only when it fails.
pub fn quiet(mut command: Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} ended with {}: {}", output.status, text.trim()))
}
