//! Producing: numbered records whose acknowledgements are printed, plain load at a rate, and the
//! probe that shows to the millisecond when each partition acknowledges.
//!
//! Invariant: a line on standard output means that the delivery report said success; nothing is
//! sent a second time by this program, so any duplicate in the log was made below it.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

const KEYS: usize = 16;
/// The probe sends one record to each of up to ten partitions this often, and to more of them
/// less often, so that probing itself is no load.
const PROBE_INTERVAL: Duration = Duration::from_millis(10);
const PROBE_PARTITIONS: usize = 10;

/// What a delivery report prints.
#[derive(Clone, Copy)]
enum Print {
    Sequence,
    Times,
    Nothing,
}

struct Reports {
    print: Print,
    acked: AtomicUsize,
    failed: AtomicUsize,
}

struct Context(Arc<Reports>);

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        eprintln!("{} {facility} {message}", wall_us());
    }
}

impl ProducerContext for Context {
    /// The sequence number of the record, or its time of sending in microseconds.
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: Self::DeliveryOpaque) {
        let message = match result {
            Ok(message) => message,
            Err((error, message)) => {
                let number = self.0.failed.fetch_add(1, Ordering::Relaxed);
                if number < 10 {
                    eprintln!("partition {} record {opaque}: {error}", message.partition());
                }
                return;
            }
        };
        self.0.acked.fetch_add(1, Ordering::Relaxed);
        // One locked write per line: the lines of two delivery threads never mix.
        let mut out = std::io::stdout().lock();
        let written = match self.0.print {
            Print::Sequence => {
                writeln!(out, "{}\t{}\t{opaque}", message.partition(), message.offset())
            }
            Print::Times => writeln!(out, "{}\t{opaque}\t{}", message.partition(), wall_us()),
            Print::Nothing => Ok(()),
        };
        written.expect("standard output is open");
    }
}

type Reporting = ThreadedProducer<Context>;

fn producer(bootstrap: &str, reports: &Arc<Reports>, extra: &[(&str, &str)]) -> Reporting {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("message.timeout.ms", super::DELIVERY_MS)
        .set("request.timeout.ms", "10000");
    for (key, value) in extra {
        config.set(*key, *value);
    }
    // What librdkafka thinks, on standard error: RDKAFKA_DEBUG=broker,metadata,topic.
    if let Ok(debug) = std::env::var("RDKAFKA_DEBUG") {
        config.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
    }
    config
        .create_with_context(Context(Arc::clone(reports)))
        .expect("the producer's configuration is valid")
}

fn reports(print: Print) -> Arc<Reports> {
    Arc::new(Reports { print, acked: AtomicUsize::new(0), failed: AtomicUsize::new(0) })
}

/// Sends `count` numbered records, an equal share with each of the comma-separated `codecs`.
pub fn sequence(
    bootstrap: &str,
    topic: &str,
    client: &str,
    count: usize,
    codecs: &str,
    rate: usize,
) -> Result<(), String> {
    let reports = reports(Print::Sequence);
    let codecs: Vec<&str> = codecs.split(',').collect();
    let start = Instant::now();
    let mut next = 0;
    for (pass, codec) in codecs.iter().enumerate() {
        let producer = producer(bootstrap, &reports, &[("compression.codec", codec)]);
        let end = count * (pass + 1) / codecs.len();
        while next < end {
            pace(start, next, rate);
            let key = format!("{client}-{}", next % KEYS);
            let value = format!("{client} {next} {}", "glass".repeat(30));
            let record =
                BaseRecord::with_opaque_to(topic, Box::new(next as u64)).key(&key).payload(&value);
            send(&producer, record)?;
            next += 1;
        }
        drain(&producer)?;
    }
    finish(&reports)
}

/// Sends records of `bytes` bytes at `rate` a second, for `seconds`.
pub fn load(
    bootstrap: &str,
    topic: &str,
    bytes: usize,
    rate: usize,
    seconds: usize,
) -> Result<(), String> {
    let reports = reports(Print::Nothing);
    let producer = producer(bootstrap, &reports, &[]);
    let value = vec![b'g'; bytes];
    let start = Instant::now();
    for number in 0..rate * seconds {
        pace(start, number, rate);
        let key = number.to_le_bytes();
        let record =
            BaseRecord::with_opaque_to(topic, Box::new(number as u64)).key(&key).payload(&value);
        send(&producer, record)?;
    }
    drain(&producer)?;
    println!(
        "acked {} failed {}",
        reports.acked.load(Ordering::Relaxed),
        reports.failed.load(Ordering::Relaxed)
    );
    finish(&reports)
}

/// Sends one record to each partition every 10 ms (with more than ten of them less often, at
/// most 1,000 records a second in all), for `seconds`; prints when each was sent and
/// when it was acknowledged, in microseconds of the wall clock.
///
/// An `attentive` client refreshes its metadata every 50 ms. A stock librdkafka looks for the new
/// leader of a broker that is down once a second, so it measures its own patience.
pub fn probe(
    bootstrap: &str,
    topic: &str,
    partitions: usize,
    seconds: usize,
    attentive: bool,
) -> Result<(), String> {
    let reports = reports(Print::Times);
    let extra: &[(&str, &str)] = match attentive {
        false => &[],
        true => &[
            ("linger.ms", "0"),
            ("reconnect.backoff.ms", "10"),
            ("reconnect.backoff.max.ms", "100"),
            ("retry.backoff.ms", "20"),
            ("retry.backoff.max.ms", "100"),
            ("topic.metadata.refresh.interval.ms", "50"),
        ],
    };
    let producer = producer(bootstrap, &reports, extra);
    let steps = u32::try_from(partitions.div_ceil(PROBE_PARTITIONS)).expect("a count");
    let interval = PROBE_INTERVAL * steps;
    let start = Instant::now();
    let mut round = 0;
    while start.elapsed() < Duration::from_secs(seconds as u64) {
        let due = start + interval * round;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        round += 1;
        for partition in 0..partitions {
            let record = BaseRecord::<str, str, _>::with_opaque_to(topic, Box::new(wall_us()))
                .partition(i32::try_from(partition).expect("a partition number"))
                .payload("probe");
            send(&producer, record)?;
        }
    }
    drain(&producer)?;
    finish(&reports)
}

/// A full local queue is waited for; any other refusal is an error of the test.
fn send<K, P>(
    producer: &Reporting,
    mut record: BaseRecord<'_, K, P, Box<u64>>,
) -> Result<(), String>
where
    K: rdkafka::message::ToBytes + ?Sized,
    P: rdkafka::message::ToBytes + ?Sized,
{
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                std::thread::sleep(Duration::from_millis(2));
            }
            Err((error, _)) => return Err(format!("send: {error}")),
        }
    }
}

fn drain(producer: &Reporting) -> Result<(), String> {
    producer.flush(Duration::from_secs(150)).map_err(|error| format!("flush: {error}"))
}

fn finish(reports: &Reports) -> Result<(), String> {
    let (acked, failed) =
        (reports.acked.load(Ordering::Relaxed), reports.failed.load(Ordering::Relaxed));
    eprintln!("acked {acked}");
    if failed > 0 {
        return Err(format!("{failed} records failed"));
    }
    Ok(())
}

/// Sleeps until record `number` is due at `rate` records a second.
fn pace(start: Instant, number: usize, rate: usize) {
    let due = start + Duration::from_secs_f64(number as f64 / rate as f64);
    let left = due.saturating_duration_since(Instant::now());
    if left > Duration::from_millis(1) {
        std::thread::sleep(left);
    }
}

/// Microseconds since the epoch: the clock the caller of the probe reads too.
fn wall_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.expect("the clock is past 1970").as_micros()).expect("fits until 586,912")
}
