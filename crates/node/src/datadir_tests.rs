//! Data directories: first use, second use, foreign ones, how a life ended.

use super::*;
use std::process::Command;
use tempfile::tempdir;

const FRESH: DirectoryId = DirectoryId([1; 16]);
const LATER: DirectoryId = DirectoryId([2; 16]);
const ME: BrokerId = BrokerId(1);

fn open(path: &Path) -> Result<DataDir, DataDirError> {
    DataDir::open(path, ME, LATER)
}

fn refusal(path: &Path) -> String {
    let line = open(path).expect_err("must be refused").to_string();
    assert!(!line.contains('\n'), "one line: {line}");
    line
}

fn birth(cluster: u8) -> Birth {
    Birth::new(ClusterId([cluster; 16]), &[(ME, FRESH)].into())
}

#[test]
fn a_directory_keeps_its_id_its_birth_and_its_layout() {
    let home = tempdir().unwrap();
    let path = home.path().join("deep/er");
    let mut first = DataDir::open(&path, ME, FRESH).unwrap();
    assert_eq!((first.directory(), first.birth()), (FRESH, None));
    assert!(first.journal().is_dir() && first.partitions().is_dir());
    first.write_birth(&birth(7)).unwrap();
    drop(first);
    let second = open(&path).unwrap();
    assert_eq!((second.directory(), second.birth()), (FRESH, Some(&birth(7))));
}

#[test]
fn one_process_at_a_time() {
    let home = tempdir().unwrap();
    let held = DataDir::open(home.path(), ME, FRESH).unwrap();
    let line = refusal(home.path());
    assert!(line.contains(&format!("in use by another process (pid {})", std::process::id())));
    drop(held);
    open(home.path()).unwrap();
}

#[test]
fn how_a_life_ended_survives_a_second_crash_before_recovery() {
    let home = tempdir().unwrap();
    let life = DataDir::open(home.path(), ME, FRESH).unwrap();
    assert_eq!(life.last_shutdown(), LastShutdown::Never);
    life.mark_running().unwrap();
    drop(life);
    let life = open(home.path()).unwrap();
    assert_eq!(life.last_shutdown(), LastShutdown::Unclean { boot_id_changed: false });
    life.mark_clean().unwrap();
    drop(life);
    assert_eq!(open(home.path()).unwrap().last_shutdown(), LastShutdown::Clean);

    // The machine went down; the next process dies before recovery is synced.
    let other_boot = format!("{LIFE_MAGIC}\nstate=running\nboot.id=another\n");
    fs::write(home.path().join(layout::LIFE), other_boot).unwrap();
    for _ in 0..2 {
        let seen = open(home.path()).unwrap().last_shutdown();
        assert_eq!(seen, LastShutdown::Unclean { boot_id_changed: true });
    }
}

#[test]
fn foreign_directories_are_refused_and_not_touched() {
    let home = tempdir().unwrap();
    let kafka = home.path().join("kafka");
    fs::create_dir(&kafka).unwrap();
    fs::write(kafka.join("meta.properties"), "version=1\n").unwrap();
    assert!(refusal(&kafka).contains("belongs to Apache Kafka"));

    let photos = home.path().join("photos");
    fs::create_dir(&photos).unwrap();
    fs::write(photos.join("cat.jpg"), "").unwrap();
    assert!(refusal(&photos).contains("holds `cat.jpg`"));
    assert_eq!(fs::read_dir(&photos).unwrap().count(), 1, "nothing was written into it");

    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(refusal(&file).starts_with("cannot create"));

    let other = home.path().join("other");
    drop(DataDir::open(&other, BrokerId(2), FRESH).unwrap());
    assert!(refusal(&other).contains("belongs to broker 2, but this is broker 1"));

    fs::write(other.join(layout::IDENTITY), "glasslog.identity=9\n").unwrap();
    assert!(refusal(&other).contains("unknown format or damaged"));
}

#[test]
fn missing_and_contradicting_identity_files_are_named() {
    let home = tempdir().unwrap();
    let mut dir = DataDir::open(home.path(), ME, FRESH).unwrap();
    dir.write_birth(&birth(7)).unwrap();
    drop(dir);
    let record = home.path().join(layout::BIRTH);
    fs::write(&record, birth(8).encode()).unwrap();
    assert!(refusal(home.path()).contains("it is of cluster 0808"));
    fs::write(&record, &birth(7).encode()[..20]).unwrap();
    assert!(refusal(home.path()).contains("cut short"));
    fs::remove_file(&record).unwrap();
    assert!(refusal(home.path()).contains("birth record is missing"));
    fs::write(&record, birth(7).encode()).unwrap();
    fs::remove_file(home.path().join(layout::IDENTITY)).unwrap();
    assert!(refusal(home.path()).contains("holds `birth` but no identity"));
}

#[test]
fn a_first_start_that_died_half_way_is_resumed() {
    let home = tempdir().unwrap();
    for name in ["lock", "identity.tmp", "lost+found"] {
        fs::write(home.path().join(name), "half").unwrap();
    }
    assert_eq!(DataDir::open(home.path(), ME, FRESH).unwrap().directory(), FRESH);

    // The record was synced, the cluster id not yet.
    fs::write(home.path().join(layout::BIRTH), birth(7).encode()).unwrap();
    assert_eq!(open(home.path()).unwrap().birth(), Some(&birth(7)));
}

#[test]
fn an_unwritable_directory_is_one_clear_line() {
    let home = tempdir().unwrap();
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    let path = if root { Path::new("/proc/glasslog").to_owned() } else { home.path().join("ro/x") };
    if !root {
        fs::create_dir(home.path().join("ro")).unwrap();
        let mut mode = fs::metadata(home.path().join("ro")).unwrap().permissions();
        mode.set_readonly(true);
        fs::set_permissions(home.path().join("ro"), mode).unwrap();
    }
    assert!(refusal(&path).starts_with("cannot create"));
}

#[test]
fn how_a_life_ended_itself_is_told_to_the_next_one_once() {
    let home = tempdir().unwrap();
    let first = DataDir::open(home.path(), ME, FRESH).unwrap();
    assert_eq!(first.take_crash(), None);
    drop(first);
    let crash = Crash { reason: "panic".into(), why: "thread shard-0".into(), at_ms: 7 };
    write_crash(home.path(), &crash).unwrap();
    let second = open(home.path()).unwrap();
    assert_eq!((second.take_crash(), second.take_crash()), (Some(crash), None));
    // Kept for people; and a note that does not read stops nobody.
    assert!(home.path().join(layout::LAST_CRASH).is_file());
    fs::write(home.path().join(layout::CRASH), "{\"reason\":").unwrap();
    assert_eq!(second.take_crash(), None);
    drop(second);
    assert!(open(home.path()).is_ok());
}

#[test]
fn a_hole_in_the_journal_is_remembered_until_it_is_settled() {
    let home = tempdir().unwrap();
    let first = DataDir::open(home.path(), ME, FRESH).unwrap();
    assert!(!first.has_hole());
    first.settle_hole().unwrap();
    first.mark_hole().unwrap();
    drop(first);
    let second = open(home.path()).unwrap();
    assert!(second.has_hole());
    second.settle_hole().unwrap();
    assert!(!second.has_hole());
}
