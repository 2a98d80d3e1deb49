//! What each client needs on this machine: found, or made under the build directory. A missing
//! toolchain is an `Err` that names it; whoever asked decides whether that is a skip.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Client;
use crate::{job, workspace};

/// Makes a client ready to run.
pub fn prepare(client: Client) -> Result<(), String> {
    match client {
        // Built with everything else, see `test::build`.
        Client::Rdkafka => Ok(()),
        Client::Kcat => prepare_kcat(),
        Client::Python => prepare_python(),
        Client::Java => prepare_java(),
    }
}

fn prepare_kcat() -> Result<(), String> {
    if job::exists("kcat") {
        return Ok(());
    }
    if !workspace::is_ci() {
        return Err("kcat is not installed".to_owned());
    }
    let mut update = Command::new("apt-get");
    update.args(["update", "-qq"]);
    job::run("apt-get update", &mut update)?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-qq", "--no-install-recommends", "kcat"]);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    job::run("apt-get install kcat", &mut install)
}

/// The interpreter of the virtual environment.
pub fn python() -> PathBuf {
    venv().join("bin/python")
}

fn venv() -> PathBuf {
    workspace::target().join("venv")
}

fn prepare_python() -> Result<(), String> {
    if !job::exists("python3") {
        return Err("python3 is not installed".to_owned());
    }
    let requirements = workspace::root().join("tests/python/requirements.txt");
    let stamp = venv().join("requirements.installed");
    if same(&requirements, &stamp) {
        return Ok(());
    }
    let mut create = Command::new("python3");
    create.args(["-m", "venv"]).arg(venv());
    job::run("python3 -m venv", &mut create)?;
    let mut install = Command::new(python());
    install.args(["-m", "pip", "install", "--quiet", "-r"]);
    install.arg(&requirements);
    job::run("pip install", &mut install)?;
    copy(&requirements, &stamp)
}

/// Where Maven puts the Java client and what it stands on.
pub fn java_dir() -> PathBuf {
    workspace::target().join("java")
}

fn prepare_java() -> Result<(), String> {
    for program in ["java", "mvn"] {
        if !job::exists(program) {
            return Err(format!("{program} is not installed"));
        }
    }
    let folder = workspace::root().join("tests/java");
    let inputs = [folder.join("pom.xml"), folder.join("src/main/java/glasslog/Workload.java")];
    let stamp = |input: &Path| {
        let name = input.file_name().expect("a file").to_string_lossy();
        java_dir().join(format!("{name}.built"))
    };
    if inputs.iter().all(|input| same(input, &stamp(input))) {
        return Ok(());
    }
    let mut build = Command::new("mvn");
    build.args(["-q", "-B", "-f"]).arg(&inputs[0]);
    build.arg(format!("-Doutput.folder={}", java_dir().display()));
    build.args(["dependency:copy-dependencies", "package"]);
    job::run("mvn", &mut build)?;
    inputs.iter().try_for_each(|input| copy(input, &stamp(input)))
}

/// Whether the stamp says that exactly this input was built before.
fn same(input: &Path, stamp: &Path) -> bool {
    matches!((fs::read(input), fs::read(stamp)), (Ok(a), Ok(b)) if a == b)
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::copy(from, to).map(|_| ()).map_err(|error| format!("{}: {error}", to.display()))
}
