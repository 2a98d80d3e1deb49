//! Apache Kafka as a peer: the project's own broker from Maven Central, three combined nodes
//! (broker and controller in one process) with its defaults, beside which ours is compared and
//! measured. [`crate::cluster::Cluster::start_kafka`] starts them.
//!
//! Invariants: what is set below is what a cluster of three on one machine needs (addresses,
//! directories, replication factors); nothing is tuned. Heap and collector are those of the
//! script that Kafka ships.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::Cluster;
use crate::{job, workspace};

/// `KAFKA_HEAP_OPTS` and `KAFKA_JVM_PERFORMANCE_OPTS` as the shipped start script sets them.
const JVM: [&str; 8] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

/// Where one node listens and keeps its data.
pub struct Member {
    pub id: i32,
    pub port: u16,
    pub controller_port: u16,
    pub data: PathBuf,
}

/// Fetches the broker's jars unless they are there; an `Err` names what is missing.
pub fn prepare() -> Result<(), String> {
    for program in ["java", "mvn"] {
        if !job::exists(program) {
            return Err(format!("{program} is not installed"));
        }
    }
    let pom = workspace::root().join("tests/kafka/pom.xml");
    let stamp = dir().join("pom.xml.fetched");
    let wanted = fs::read(&pom).map_err(|error| format!("{}: {error}", pom.display()))?;
    if fs::read(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    let mut fetch = Command::new("mvn");
    fetch.args(["-q", "-B", "-f"]).arg(&pom);
    fetch.arg(format!("-Doutput.folder={}", dir().display()));
    fetch.arg("dependency:copy-dependencies");
    job::run("mvn", &mut fetch)?;
    fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))
}

/// Three nodes for whoever wants to look, until standard input ends.
pub fn serve(properties: &[&str]) -> Result<(), String> {
    prepare()?;
    let cluster = Cluster::start_kafka("kafka", properties)?;
    println!(
        "{}\n{}\nprocesses {:?}",
        cluster.bootstrap(),
        cluster.dir().display(),
        cluster.pids()
    );
    let ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    cluster.remove();
    ended.map(|_| ()).map_err(|error| error.to_string())
}

fn dir() -> PathBuf {
    workspace::target().join("kafka")
}

/// A class of the broker's jars.
pub fn java(options: &[&str], class: &str) -> Command {
    let mut command = Command::new("java");
    command.args(options);
    command.args(["-cp", &format!("{}/jars/*", dir().display()), class]);
    command
}

/// The command that runs the node with this configuration file.
pub fn server(config: &Path) -> Command {
    let mut command = java(&JVM, "kafka.Kafka");
    command.arg(config);
    command
}

/// The configuration of one of `members`, with `extra` lines after ours.
pub fn config(member: &Member, members: &[Member], extra: &[&str]) -> String {
    let voters: Vec<String> =
        members.iter().map(|m| format!("{}@127.0.0.1:{}", m.id, m.controller_port)).collect();
    format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         controller.quorum.voters={voters}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={data}\n\
         default.replication.factor=3\n\
         min.insync.replicas=2\n\
         offsets.topic.replication.factor=3\n\
         transaction.state.log.replication.factor=3\n\
         transaction.state.log.min.isr=2\n\
         share.coordinator.state.topic.replication.factor=3\n\
         share.coordinator.state.topic.min.isr=2\n\
         {extra}\n",
        id = member.id,
        voters = voters.join(","),
        port = member.port,
        controller = member.controller_port,
        data = member.data.display(),
        extra = extra.join("\n"),
    )
}

/// Makes the data directories of a new cluster; `configs` are the nodes' files.
pub fn format(configs: &[PathBuf]) -> Result<(), String> {
    const TOOL: &str = "kafka.tools.StorageTool";
    let output = java(&["-Xmx64m"], TOOL)
        .arg("random-uuid")
        .output()
        .map_err(|error| format!("java: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let id = text.lines().last().map(str::trim).filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    for config in configs {
        let output = java(&["-Xmx64m"], TOOL)
            .args(["format", "-t", id, "-c"])
            .arg(config)
            .output()
            .map_err(|error| format!("java: {error}"))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{TOOL} format: {text}"));
        }
    }
    Ok(())
}
