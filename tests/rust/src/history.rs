//! What a client did and saw, one line per event as it happens: a producer that writes until its
//! standard input ends, and a consumer that follows a topic as long. `cargo xtask chaos` judges
//! their lines while it breaks things.
//!
//! Invariants: a record is sent once by this program, so what is there twice was made below it; a
//! failure is called certain only where the error says that the record cannot have been stored.

use std::io::{BufWriter, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use crate::consume;

/// A record whose fate is not known after this long is given up.
const DELIVERY_MS: &str = "90000";
const FLUSH: Duration = Duration::from_secs(100);
/// A topic whose leaders are being elected is asked for again.
const PATIENCE: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// What a delivery report needs to know of its record.
struct Sent {
    number: usize,
    sent_us: u64,
}

struct Printer;

impl ClientContext for Printer {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        eprintln!("{} {facility} {message}", wall_us());
    }
}

impl ProducerContext for Printer {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Self::DeliveryOpaque) {
        let mut out = std::io::stdout().lock();
        let (number, sent_us, now_us) = (sent.number, sent.sent_us, wall_us());
        let written = match result {
            Ok(message) => {
                let (partition, offset) = (message.partition(), message.offset());
                writeln!(out, "ack\t{partition}\t{offset}\t{number}\t{sent_us}\t{now_us}")
            }
            Err((error, message)) => {
                let known = if is_certain(error) { "certain" } else { "unsure" };
                let partition = message.partition();
                writeln!(out, "fail\t{partition}\t{number}\t{known}\t{error}")
            }
        };
        written.expect("standard output is open");
    }
}

/// Whether the broker refused the record itself. All else, time-outs first, leaves open whether
/// it was stored.
fn is_certain(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::PolicyViolation
        )
    )
}

/// Numbered records, in turn to each partition at `rate` a second in all, until standard input
/// ends; then waits for what is on its way.
pub fn produce(
    bootstrap: &str,
    topic: &str,
    client: &str,
    partitions: usize,
    rate: usize,
) -> Result<(), String> {
    let producer: ThreadedProducer<Printer> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .set("message.timeout.ms", DELIVERY_MS)
        // It should notice what the brokers do, not what its own patience is.
        .set("request.timeout.ms", "2000")
        .set("socket.timeout.ms", "2000")
        .set("socket.connection.setup.timeout.ms", "1000")
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "100")
        .set("retry.backoff.ms", "20")
        .set("retry.backoff.max.ms", "100")
        .set("topic.metadata.refresh.interval.ms", "50")
        .create_with_context(Printer)
        .map_err(|error| format!("producer: {error}"))?;
    let ended = watch_input();
    let start = Instant::now();
    let mut number = 0;
    while !ended.load(Ordering::Relaxed) {
        let due = start + Duration::from_secs_f64(number as f64 / rate as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()).min(POLL));
        if Instant::now() < due {
            continue;
        }
        let value = format!("{client} {number}");
        let sent = Box::new(Sent { number, sent_us: wall_us() });
        let partition = i32::try_from(number % partitions).expect("a partition number");
        let record = BaseRecord::<str, str, _>::with_opaque_to(topic, sent)
            .partition(partition)
            .payload(&value);
        match producer.send(record) {
            Ok(()) => number += 1,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                std::thread::sleep(POLL);
            }
            Err((error, _)) => return Err(format!("send: {error}")),
        }
    }
    producer.flush(FLUSH).map_err(|error| format!("flush: {error}"))
}

/// Every record of the topic as it comes, from its beginning until standard input ends, and then
/// on to the end that the topic has by then. With no standard input: the topic read once.
pub fn poll(bootstrap: &str, topic: &str) -> Result<(), String> {
    let consumer: BaseConsumer = consume::reader(bootstrap)
        .set("check.crcs", "true")
        .set("fetch.wait.max.ms", "100")
        .set("socket.connection.setup.timeout.ms", "1000")
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "200")
        .set("topic.metadata.refresh.interval.ms", "200")
        .create()
        .map_err(|error| format!("consumer: {error}"))?;
    let ended = watch_input();
    patiently(|| consume::assign(&consumer, topic))?;
    let mut next = std::collections::BTreeMap::new();
    let mut out = BufWriter::new(std::io::stdout().lock());
    while !ended.load(Ordering::Relaxed) {
        match one(&consumer, &mut next, &mut out)? {
            true => {}
            false => out.flush().map_err(|error| error.to_string())?,
        }
    }
    let ends = patiently(|| consume::ends(&consumer, topic))?;
    let mut heard = Instant::now();
    while ends.iter().any(|(partition, end)| next.get(partition).unwrap_or(&0) < end) {
        if one(&consumer, &mut next, &mut out)? {
            heard = Instant::now();
        } else if heard.elapsed() > QUIET {
            out.flush().map_err(|error| error.to_string())?;
            return Err(format!("no record for 60 s; read up to {next:?} of {ends:?}"));
        }
    }
    out.flush().map_err(|error| error.to_string())
}

/// Prints the next record, if one comes soon.
fn one(
    consumer: &BaseConsumer,
    next: &mut std::collections::BTreeMap<i32, i64>,
    out: &mut impl Write,
) -> Result<bool, String> {
    match consumer.poll(POLL) {
        None => Ok(false),
        Some(Ok(message)) => {
            next.insert(message.partition(), message.offset() + 1);
            print(out, &message)?;
            Ok(true)
        }
        // librdkafka retries by itself: what it reports meanwhile is news, not an end.
        Some(Err(error)) => {
            eprintln!("{} {error}", wall_us());
            Ok(false)
        }
    }
}

fn print(out: &mut impl Write, message: &BorrowedMessage<'_>) -> Result<(), String> {
    let value = message.payload().and_then(|value| std::str::from_utf8(value).ok());
    let value = value.ok_or_else(|| format!("offset {}: not one of ours", message.offset()))?;
    writeln!(out, "{}\t{}\t{value}", message.partition(), message.offset())
        .map_err(|error| error.to_string())
}

fn patiently<T>(ask: impl Fn() -> Result<T, String>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        match ask() {
            Err(error) if start.elapsed() < PATIENCE => {
                eprintln!("{} {error}", wall_us());
                std::thread::sleep(POLL);
            }
            other => return other,
        }
    }
}

/// Becomes true when standard input ends.
fn watch_input() -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    std::thread::spawn(move || {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(1..)) {}
        told.store(true, Ordering::Relaxed);
    });
    ended
}

/// Microseconds since the epoch: the clock of whoever breaks things meanwhile.
fn wall_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.expect("the clock is past 1970").as_micros()).expect("fits until 586,912")
}
