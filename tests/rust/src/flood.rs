//! Measuring: a number of equal records, as fast as they are taken or at a rate, with the time
//! from the call to the acknowledgement of each, in all or by the moment; and a topic read as fast
//! as it comes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use crate::consume;

const PATIENCE: Duration = Duration::from_secs(150);
const QUIET: Duration = Duration::from_secs(30);

/// Records before anything is measured: connections, metadata and a producer id take their time.
const WARM_UP: usize = 200;
/// In the place of a record's time.
const WARMING_UP: u64 = u64::MAX;

/// Length of a moment that is told by itself.
const SLOT_MS: u64 = 50;

/// What to send.
pub struct Flood {
    pub bytes: usize,
    pub records: usize,
    /// Records a second; 0 as fast as it goes.
    pub rate: usize,
    /// librdkafka's batch.size, 0 for its default and 1 for one record per request.
    pub batch_bytes: usize,
    /// What was acknowledged is printed by the moment, not in all.
    pub by_slot: bool,
}

/// Acknowledgements of a moment: how many, and at a rate how long each took, microseconds.
#[derive(Default)]
struct Slot {
    acked: u64,
    took_us: Vec<u64>,
}

/// By milliseconds since 1970.
struct Slots {
    slots: Mutex<BTreeMap<u64, Slot>>,
    each: bool,
}

impl Slots {
    fn record(&self, us: u64) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(since.as_millis()).unwrap_or(0);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry(now_ms - now_ms % SLOT_MS).or_default();
        slot.acked += 1;
        if self.each {
            slot.took_us.push(us);
        }
    }

    fn print(&self) {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (at_ms, slot) in slots.iter() {
            let _ = write!(text, "{at_ms} {}", slot.acked);
            for us in &slot.took_us {
                let _ = write!(text, " {us}");
            }
            text.push('\n');
        }
        print!("{text}");
    }
}

/// Latencies by their binary logarithm in 32 steps each: 3 % wide, from a microsecond on.
struct Times {
    began: Instant,
    counts: Vec<AtomicU64>,
    failed: AtomicU64,
    slots: Option<Slots>,
}

const STEPS: usize = 32;
const BUCKETS: usize = 40 * STEPS;

impl Times {
    fn record(&self, us: u64) {
        let at = (((us.max(1) as f64).log2() * STEPS as f64) as usize).min(BUCKETS - 1);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        if let Some(slots) = &self.slots {
            slots.record(us);
        }
    }

    fn acked(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn quantile_us(&self, quantile: f64) -> f64 {
        let acked = self.acked();
        let wanted = ((acked as f64 * quantile) as u64).min(acked.saturating_sub(1));
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count.load(Ordering::Relaxed);
            if seen > wanted {
                return ((at + 1) as f64 / STEPS as f64).exp2();
            }
        }
        0.0
    }
}

struct Context(Times);

impl ClientContext for Context {}

impl ProducerContext for Context {
    /// When the record was handed over, microseconds since the start.
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent_us: Self::DeliveryOpaque) {
        match result {
            Ok(_) if *sent_us == WARMING_UP => {}
            Ok(_) => self.0.record(elapsed_us(self.0.began) - *sent_us),
            Err((error, _)) => {
                if self.0.failed.fetch_add(1, Ordering::Relaxed) < 10 {
                    eprintln!("{error}");
                }
            }
        }
    }
}

/// Sends, waits for every acknowledgement, and prints
/// "records seconds p50_us p99_us p999_us max_us", or a line for each moment: "ms acked us us us ...".
pub fn produce(bootstrap: &str, topic: &str, flood: &Flood) -> Result<(), String> {
    let producer = producer(bootstrap, flood)?;
    let times = &producer.context().0;
    let value = vec![b'g'; flood.bytes];
    for _ in 0..WARM_UP {
        let record = BaseRecord::<str, _, _>::with_opaque_to(topic, Box::new(WARMING_UP));
        producer.send(record.payload(&value)).map_err(|(error, _)| format!("send: {error}"))?;
    }
    producer.flush(PATIENCE).map_err(|error| format!("flush: {error}"))?;
    let began = Instant::now();
    for number in 0..flood.records {
        if flood.rate > 0 {
            let due = began + Duration::from_secs_f64(number as f64 / flood.rate as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let sent_us = Box::new(elapsed_us(times.began));
        let mut record = BaseRecord::<str, _, _>::with_opaque_to(topic, sent_us).payload(&value);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => return Err(format!("send: {error}")),
            }
        }
    }
    producer.flush(PATIENCE).map_err(|error| format!("flush: {error}"))?;
    let seconds = began.elapsed().as_secs_f64();
    let failed = times.failed.load(Ordering::Relaxed);
    if failed > 0 || times.acked() != flood.records as u64 {
        return Err(format!("{failed} records failed, {} acked", times.acked()));
    }
    if let Some(slots) = &times.slots {
        slots.print();
        return Ok(());
    }
    let at = |quantile| times.quantile_us(quantile);
    println!("{} {seconds} {} {} {} {}", flood.records, at(0.5), at(0.99), at(0.999), at(1.0));
    Ok(())
}

/// Acknowledgements have a thread of their own, which sleeps until there are some: a sender that is due
/// within the millisecond would ask for them without end, and take a processor from the brokers.
fn producer(bootstrap: &str, flood: &Flood) -> Result<ThreadedProducer<Context>, String> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("acks", "all");
    config.set("enable.idempotence", "true").set("message.timeout.ms", super::DELIVERY_MS);
    match flood.batch_bytes {
        0 => {}
        1 => {
            config.set("batch.num.messages", "1").set("linger.ms", "0");
        }
        bytes => {
            config.set("batch.size", bytes.to_string()).set("batch.num.messages", "100000");
        }
    }
    let counts = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
    let each = flood.rate > 0;
    let slots = flood.by_slot.then(|| Slots { slots: Mutex::default(), each });
    let times = Times { began: Instant::now(), counts, failed: AtomicU64::new(0), slots };
    config.create_with_context(Context(times)).map_err(|error| format!("producer: {error}"))
}

/// Reads `topic` from its beginning to the end it had; prints "records bytes seconds".
pub fn drain(bootstrap: &str, topic: &str) -> Result<(), String> {
    let consumer: BaseConsumer =
        consume::reader(bootstrap).create().map_err(|error| format!("consumer: {error}"))?;
    let mut ends = consume::assign(&consumer, topic)?;
    let (began, mut records, mut bytes) = (Instant::now(), 0_u64, 0_u64);
    let mut heard = Instant::now();
    while !ends.is_empty() {
        match consumer.poll(Duration::from_millis(500)) {
            None if heard.elapsed() > QUIET => return Err(format!("still to read: {ends:?}")),
            None => {}
            Some(Err(error)) => eprintln!("{error}"),
            Some(Ok(message)) => {
                heard = Instant::now();
                records += 1;
                bytes += message.payload_len() as u64;
                let done = |end: &i64| message.offset() + 1 >= *end;
                if ends.get(&message.partition()).is_some_and(done) {
                    ends.remove(&message.partition());
                }
            }
        }
    }
    println!("{records} {bytes} {}", began.elapsed().as_secs_f64());
    Ok(())
}

fn elapsed_us(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).expect("not for 584,542 years")
}
