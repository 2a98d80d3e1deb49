//! Where faults are made that no program can make by itself: the rooms that brokers live in,
//! a network namespace each, joined by a bridge in the namespace where the test and its clients
//! run; and what can be done to packets, processors, disks, clocks and threads.
//!
//! Invariant: everything made here goes when its value does, and if nobody is left to drop it,
//! with the last process of the namespace. Control groups are swept by their starter's id.

pub mod clock;
pub mod disks;
pub mod freezer;
pub mod groups;
pub mod needs;

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use crate::cluster::Home;
use crate::workspace;

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

    /// Loses what one broker sends to `others` in packets larger than this, as a path does that has
    /// become too narrow and does not say so: signs of life pass, records do not.
    pub fn squeeze(&self, id: i32, others: &[i32], bytes_max: u32) -> Result<(), String> {
        let hosts: Vec<String> = others.iter().map(|other| host(*other).to_string()).collect();
        let to = format!("add rule inet chaos out ip daddr {{ {} }}", hosts.join(", "));
        self.run(id, "nft", &[&format!("{TABLE} {to} meta length > {bytes_max} drop")])
    }

    /// Ends what [`Lab::cut`], [`Lab::lose`] and [`Lab::squeeze`] began.
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

/// The start of a command that runs this program again with these words, in fresh network, mount
/// and process namespaces: with its last process goes whatever was made there.
pub fn apart(words: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork"]);
    command.args(["--kill-child", "--mount-proc", "--propagation", "private"]);
    // Of the same build as the brokers and clients: whoever runs this may just have been replaced.
    command.arg(workspace::program("xtask")).args(words).stdin(Stdio::null());
    command
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
