//! What happened, as a running hash and, on demand, as one line per event.
//!
//! Invariant: the hash covers every event whether or not lines are kept, so that a printed life
//! and a silent one are the same life.

/// Who an event is about.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    World,
    Broker(usize),
    Client(usize),
}

pub struct Trace {
    hash: u64,
    pub events: u64,
    record: bool,
    print: bool,
    pub lines: Vec<String>,
}

impl Trace {
    pub fn new(seed: u64, record: bool, print: bool) -> Trace {
        let mut trace =
            Trace { hash: 0xcbf2_9ce4_8422_2325, events: 0, record, print, lines: Vec::new() };
        trace.mix(seed);
        trace
    }

    /// One event with its numbers.
    pub fn event(&mut self, at_ns: u64, who: Who, what: &str, values: &[(&'static str, u64)]) {
        self.events += 1;
        self.mix(at_ns);
        self.mix(match who {
            Who::World => 0,
            Who::Broker(b) => 1 + b as u64,
            Who::Client(c) => 1_000 + c as u64,
        });
        for chunk in what.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        for (_, value) in values {
            self.mix(*value);
        }
        if self.record || self.print {
            self.line(at_ns, who, what, values);
        }
    }

    fn line(&mut self, at_ns: u64, who: Who, what: &str, values: &[(&'static str, u64)]) {
        let who = match who {
            Who::World => "world".to_string(),
            Who::Broker(b) => format!("b{}", b + 1),
            Who::Client(c) => format!("c{c}"),
        };
        let mut text = format!(
            "{:>4}.{:06} {who:<5} {what}",
            at_ns / 1_000_000_000,
            at_ns / 1_000 % 1_000_000
        );
        for (name, value) in values {
            text.push_str(&format!(" {name}={value}"));
        }
        if self.print {
            println!("{text}");
        }
        if self.record {
            self.lines.push(text);
        }
    }

    fn mix(&mut self, value: u64) {
        // One multiplication per word: this runs for every event of every life.
        self.hash = (self.hash.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    pub fn hash(&self) -> u64 {
        self.hash ^ (self.hash >> 29)
    }
}
