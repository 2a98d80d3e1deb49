//! The web console in a real browser, before three real brokers under load: on a phone and a desk,
//! dark and light, by keyboard; then one broker is killed, and then the one that shows it. The
//! browser's part is `tests/browser/story.mjs`; what it asks for is done here.
//!
//! Its pictures are left in `target/test-output/console`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::job::Job;
use crate::tally::Tally;
use crate::{clients, workspace};

const TOPIC: &str = "watched";
const PARTITIONS: i32 = 3;
const BROWSER: &str = "chromium";
/// Record size, records a second, and seconds: longer than the story.
const LOAD: [&str; 3] = ["512", "200", "180"];
const LIMIT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(20);

/// Runs the story.
pub fn run(tally: &mut Tally) {
    let programs = match prepare() {
        Ok(programs) => programs,
        Err(why) => return tally.skip("the console in a browser", &why),
    };
    let mut world = None;
    tally.check("three brokers under load, and a browser", || {
        let cluster = Cluster::start("console")?;
        cluster.create_topic(TOPIC, PARTITIONS)?;
        let mut load = Command::new(workspace::program("client-rdkafka"));
        load.args(["load", &cluster.bootstrap(), TOPIC]).args(LOAD);
        let load = Job::spawn("load", load, cluster.dir())?;
        let story = story(&programs, &cluster)?;
        world = Some((cluster, load, story));
        Ok(String::new())
    });
    let Some((mut cluster, load, mut story)) = world else { return };
    let failed = tally.failed;
    if let Err(why) = play(tally, &mut cluster, &mut story) {
        tally.fail("the browser's story", &why);
    }
    drop((load, story));
    if tally.failed == failed {
        cluster.remove();
    } else {
        println!("      kept: {}", cluster.dir().display());
    }
}

/// The browser is there, and what drives it: where.
fn prepare() -> Result<PathBuf, String> {
    clients::program(BROWSER, BROWSER)?;
    clients::npm("browser")
}

fn story(programs: &Path, cluster: &Cluster) -> Result<Job, String> {
    let asked = *cluster.ids().first().ok_or("no brokers")?;
    let base = format!("http://{}", cluster.admin(asked));
    let mut command = Command::new("node");
    command.arg(programs.join("story.mjs")).args([&browser()?, &base, &format!("{TOPIC}-0")]);
    command.arg(workspace::target().join("test-output/console")).stdin(Stdio::piped());
    Job::spawn("story", command, cluster.dir())
}

/// Its path: what drives it does not look for it.
fn browser() -> Result<String, String> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|dir| dir.join(BROWSER)).find(|p| p.is_file());
    found.map(|path| path.display().to_string()).ok_or_else(|| format!("no {BROWSER}"))
}

/// Reads what the story prints until it ends; does what it wants and notes what it found.
fn play(tally: &mut Tally, cluster: &mut Cluster, story: &mut Job) -> Result<(), String> {
    let mut input = story.stdin().ok_or("no standard input")?;
    let (begun, mut read) = (Instant::now(), 0);
    loop {
        let running = story.is_running();
        let text = story.stdout();
        // The last line may be half written.
        let end = text.rfind('\n').map_or(0, |end| end + 1);
        let lines = &text[std::mem::replace(&mut read, end)..end];
        for line in lines.lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["ok", name, text] => _ = tally.check(name, || Ok(text.to_owned())),
                ["fail", name, why] => tally.fail(name, &why.replace("\\n", "\n      ")),
                ["want", what, id] => {
                    let answer = serve(cluster, what, id);
                    let answer = answer.as_ref().map_or_else(String::as_str, |()| "done");
                    writeln!(input, "{answer}").map_err(|error| error.to_string())?;
                }
                _ => return Err(format!("it prints `{line}`")),
            }
        }
        match running {
            false if story.stdout().len() == end => return ended(story),
            true if begun.elapsed() > LIMIT => return Err(format!("it takes {LIMIT:?}")),
            _ => std::thread::sleep(POLL),
        }
    }
}

fn serve(cluster: &mut Cluster, what: &str, id: &str) -> Result<(), String> {
    let id: i32 = id.parse().map_err(|_| format!("no broker: {id}"))?;
    match what {
        "kill" => cluster.kill(id),
        "start" => cluster.launch(id),
        _ => Err(format!("nobody knows how to {what}")),
    }
}

fn ended(story: &Job) -> Result<(), String> {
    let complaints = story.stderr();
    if complaints.is_empty() { Ok(()) } else { Err(complaints) }
}
