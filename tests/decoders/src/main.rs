//! Writes the corpus that is committed beside the fuzz targets.

use std::path::Path;

use decoders::seeds;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let all: Vec<seeds::Seed> = seeds::all().into_iter().chain(seeds::bombs()).collect();
    for seed in &all {
        let dir = corpus.join(seed.target);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join(&seed.name), &seed.bytes)?;
    }
    println!("{} files in {}", all.len(), corpus.display());
    Ok(())
}
