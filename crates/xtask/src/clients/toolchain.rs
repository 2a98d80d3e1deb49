//! What each client needs on this machine: found, or made under the build directory. A missing
//! toolchain is an `Err` that names it; whoever asked decides whether that is a skip.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Client;
use crate::{job, workspace};

/// What clients are made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Toolchain {
    Workspace,
    Kcat,
    Python,
    Java,
    Go,
    Node,
}

impl Toolchain {
    pub const ALL: [Toolchain; 6] = [
        Toolchain::Workspace,
        Toolchain::Kcat,
        Toolchain::Python,
        Toolchain::Java,
        Toolchain::Go,
        Toolchain::Node,
    ];

    fn make(self) -> Result<(), String> {
        match self {
            // Built with everything else, see `test::build`.
            Toolchain::Workspace => Ok(()),
            Toolchain::Kcat => prepare_kcat(),
            Toolchain::Python => prepare_python(),
            Toolchain::Java => prepare_java(),
            Toolchain::Go => prepare_go(),
            Toolchain::Node => prepare_node(),
        }
    }
}

/// Makes one client ready.
pub fn prepare(client: Client) -> Result<(), String> {
    client.toolchain().make()
}

/// Makes all of them ready at once: most of it is waiting for a registry.
pub fn prepare_all() -> BTreeMap<Toolchain, Result<(), String>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            Toolchain::ALL.map(|one| (one, scope.spawn(move || one.make()))).into();
        let joined = threads.into_iter().map(|(one, thread)| {
            let panicked = || Err(format!("making {one:?} ready panicked"));
            (one, thread.join().unwrap_or_else(|_| panicked()))
        });
        joined.collect()
    })
}

fn prepare_kcat() -> Result<(), String> {
    program("kcat", "kcat")
}

/// A program of the distribution: there, or in CI installed with its package.
pub fn program(name: &str, package: &str) -> Result<(), String> {
    if job::exists(name) {
        return Ok(());
    }
    if !workspace::is_ci() {
        return Err(format!("{name} is not installed"));
    }
    let mut update = Command::new("apt-get");
    update.args(["update", "-qq"]);
    job::run("apt-get update", &mut update)?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-qq", "--no-install-recommends", package]);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    job::run(&format!("apt-get install {package}"), &mut install)
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
    let mut inputs = vec![folder.join("pom.xml")];
    inputs.extend(files(&folder.join("src/main/java/glasslog"))?);
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

/// The program of both Go clients.
pub fn go_program() -> PathBuf {
    workspace::target().join("go/clients")
}

fn prepare_go() -> Result<(), String> {
    if !job::exists("go") {
        return Err("go is not installed".to_owned());
    }
    let mut build = Command::new("go");
    // The toolchain that is there, and nothing but what go.sum knows.
    build.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=readonly -buildvcs=false");
    build.current_dir(workspace::root().join("tests/go"));
    build.args(["build", "-o"]).arg(go_program()).arg(".");
    job::run("go build", &mut build)
}

/// Where the kafkajs program runs, beside its modules.
pub fn node_dir() -> PathBuf {
    workspace::target().join("node")
}

fn prepare_node() -> Result<(), String> {
    npm("node").map(drop)
}

/// The programs of `tests/<name>` in a copy beside their modules, which the lock file names.
/// Returns where.
pub fn npm(name: &str) -> Result<PathBuf, String> {
    for program in ["node", "npm"] {
        if !job::exists(program) {
            return Err(format!("{program} is not installed"));
        }
    }
    let folder = workspace::target().join(name);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for file in files(&workspace::root().join("tests").join(name))? {
        copy(&file, &folder.join(file.file_name().expect("a file")))?;
    }
    let (lock, stamp) = (folder.join("package-lock.json"), folder.join("installed"));
    if same(&lock, &stamp) {
        return Ok(folder);
    }
    let mut install = Command::new("npm");
    install.args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&folder);
    job::run("npm ci", &mut install)?;
    copy(&lock, &stamp)?;
    Ok(folder)
}

/// The files of a folder, without those of its subfolders.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    Ok(paths.into_iter().filter(|path| path.is_file()).collect())
}

/// Whether the stamp says that exactly this input was built before.
fn same(input: &Path, stamp: &Path) -> bool {
    matches!((fs::read(input), fs::read(stamp)), (Ok(a), Ok(b)) if a == b)
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::copy(from, to).map(|_| ()).map_err(|error| format!("{}: {error}", to.display()))
}
