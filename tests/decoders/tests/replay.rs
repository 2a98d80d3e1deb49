//! The corpus of the fuzz targets and thousands of mutations of it, on stable and in process: no
//! decoder panics, takes more memory than its bound, or takes its time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use decoders::{TARGETS, Target, seeds};
use storage::Manifest;
use storage::testing::Dice;
use wire::decode_request;
use wire::records::{BatchRules, Compression, validate, validate_compressed};

/// Mutations of one target's corpus.
const MUTATIONS: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(5);

struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches only
// thread-local cells, which need no allocation and no destructor.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get().saturating_add_unsigned(layout.size()));
        PEAK.set(PEAK.get().max(HELD.get()));
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get().saturating_sub_unsigned(layout.size()));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes held at most while `work` runs, beyond what was held before.
fn peak(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    work();
    PEAK.get().abs_diff(before)
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// A target's files, by name.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let dir = home().join("corpus").join(target.name);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{dir:?}: {error}"));
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{dir:?} is empty");
    files
}

fn feed(target: &Target, bytes: &[u8], what: &str) {
    let began = Instant::now();
    let mut outcome = Ok(());
    let held = peak(|| outcome = catch_unwind(|| (target.run)(bytes)));
    let hex = || bytes.iter().take(200).map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(outcome.is_ok(), "{} panicked at {what}: {}", target.name, hex());
    let bound = (target.memory_max)(bytes.len());
    assert!(held <= bound, "{} took {held} bytes of {bound}, {what}: {}", target.name, hex());
    assert!(began.elapsed() < PATIENCE, "{} took {:?}, {what}", target.name, began.elapsed());
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let files = corpus(target);
    for (name, bytes) in &files {
        feed(target, bytes, name);
    }
    for seed in 0..MUTATIONS {
        let (name, bytes) = &files[(seed % files.len() as u64) as usize];
        let mut bytes = bytes.clone();
        seeds::lie(&mut bytes, &mut Dice(seed));
        feed(target, &bytes, &format!("{name}, seed {seed}"));
    }
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn every_target_is_replayed_and_has_its_fuzz_target() {
            let replayed = [$(stringify!($name)),*];
            assert_eq!(replayed, TARGETS.map(|target| target.name));
            for name in replayed {
                let file = home().join("fuzz_targets").join(format!("{name}.rs"));
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                assert!(text.contains(&format!("run(\"{name}\"")), "{file:?}");
            }
        }
    };
}

replays!(frame request batch compressed envelope journal checkpoint manifest segment);

/// A corpus that no longer means anything would be replayed in vain.
#[test]
fn the_corpus_is_what_the_encoders_write() {
    for seed in seeds::all().into_iter().chain(seeds::bombs()) {
        let file = home().join("corpus").join(seed.target).join(&seed.name);
        let stored = std::fs::read(&file).unwrap_or_default();
        assert!(stored == seed.bytes, "{file:?}: write it anew with `cargo run -p decoders`");
    }
}

/// Nor one that is refused at its first byte.
#[test]
fn the_corpus_is_sound() {
    for seed in seeds::all() {
        let bytes = Bytes::from(seed.bytes);
        let sound = match seed.target {
            "request" => decode_request(bytes).is_ok_and(|request| request.check().is_ok()),
            "batch" => {
                let header = validate(&bytes, &BatchRules::for_produce(9));
                let plain = header.map(|header| header.compression() == Some(Compression::None));
                plain.is_ok_and(|plain| plain || validate_compressed(&bytes, 1 << 20).is_ok())
            }
            "envelope" => node::peer::decode_envelope(bytes).is_some_and(|items| items.len() == 2),
            "manifest" => {
                Manifest::decode(bytes).is_some_and(|manifest| manifest.files().len() == 2)
            }
            _ => true,
        };
        assert!(sound, "{}/{}", seed.target, seed.name);
    }
}
