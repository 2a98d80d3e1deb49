//! Prints the metrics reference: what `METRICS.md` holds.

fn main() {
    print!("{}", telemetry::catalogue_markdown());
}
