//! What must be true of a topic that was written and read back: nothing acknowledged is lost,
//! nothing is there twice, offsets have no holes, and each key is in the order it was sent.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Faults that are listed by name; more are only counted.
const SHOWN_MAX: usize = 8;

/// An acknowledged record: who sent it, its number there, and where the broker said it went
/// (kcat does not tell).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acked {
    pub client: String,
    pub sequence: u64,
    pub at: Option<(i32, i64)>,
}

/// A record as a consumer saw it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub partition: i32,
    pub offset: i64,
    pub key: String,
    pub client: String,
    pub sequence: u64,
}

/// Reads "partition offset sequence" lines.
pub fn parse_acked(client: &str, text: &str) -> Result<Vec<Acked>, String> {
    let parse = |line: &str| {
        let mut words = line.split('\t');
        let at: (i32, i64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Acked {
            client: client.to_owned(),
            // A negative offset is a client's way to say "stored, but I was not told where".
            at: (at.1 >= 0).then_some(at),
            sequence: words.next()?.parse().ok()?,
        })
    };
    text.lines()
        .map(|line| parse(line).ok_or_else(|| format!("{client}: no acknowledgement: `{line}`")))
        .collect()
}

/// Reads "partition offset key client sequence" lines.
pub fn parse_seen(text: &str) -> Result<Vec<Seen>, String> {
    let parse = |line: &str| {
        let mut words = line.split(['\t', ' ']);
        Some(Seen {
            partition: words.next()?.parse().ok()?,
            offset: words.next()?.parse().ok()?,
            key: words.next()?.to_owned(),
            client: words.next()?.to_owned(),
            sequence: words.next()?.parse().ok()?,
        })
    };
    text.lines()
        .map(|line| parse(line).ok_or_else(|| format!("no record of ours: `{line}`")))
        .collect()
}

/// What can be wrong with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Acknowledged, and not there.
    Lost,
    /// Not where its acknowledgement said.
    Moved,
    /// There more than once.
    Twice,
    /// Offsets do not count up from 0.
    Hole,
    /// A key is in two partitions.
    Scattered,
    /// A key's numbers do not rise.
    Order,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Lost => "lost",
            Kind::Moved => "moved",
            Kind::Twice => "twice",
            Kind::Hole => "hole",
            Kind::Scattered => "scattered",
            Kind::Order => "order",
        }
    }
}

/// One thing that is wrong, in words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    pub kind: Kind,
    pub text: String,
}

/// An error that names the first of the [`faults`], unless there are none.
pub fn judge(acked: &[Acked], seen: &[Seen], may_repeat: &[&str]) -> Result<(), String> {
    let faults = faults(acked, seen, may_repeat);
    if faults.is_empty() {
        return Ok(());
    }
    let words = |fault: &Fault| format!("{}: {}", fault.kind.as_str(), fault.text);
    let shown: Vec<String> = faults.iter().take(SHOWN_MAX).map(words).collect();
    Err(format!("{} faults\n      {}", faults.len(), shown.join("\n      ")))
}

/// Every fault in what was `seen`, in the order the consumer saw it, against what was `acked`.
/// Clients that `may_repeat` have no idempotence: a record of theirs may be there again, behind
/// its first place.
pub fn faults(acked: &[Acked], seen: &[Seen], may_repeat: &[&str]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut places: HashMap<(&str, u64), Vec<(i32, i64)>> = HashMap::new();
    for record in seen {
        let place = (record.partition, record.offset);
        places.entry((&record.client, record.sequence)).or_default().push(place);
    }
    let mut fault = |kind, text| faults.push(Fault { kind, text });
    for record in acked {
        let name = format!("{} {}", record.client, record.sequence);
        match places.get(&(record.client.as_str(), record.sequence)) {
            None => fault(Kind::Lost, format!("{name}, acknowledged at {:?}", record.at)),
            Some(found) => {
                if let Some(at) = record.at.filter(|at| !found.contains(at)) {
                    let text = format!("{name}, acknowledged at {at:?}, is at {found:?}");
                    fault(Kind::Moved, text);
                }
            }
        }
    }
    for ((client, sequence), found) in &places {
        if found.len() > 1 && !may_repeat.contains(client) {
            fault(Kind::Twice, format!("{client} {sequence} at {found:?}"));
        }
    }
    order(seen, may_repeat, &mut fault);
    faults.sort();
    faults
}

/// Offsets of a partition count up from 0 without holes; a key stays in its partition, and its
/// numbers rise.
fn order(seen: &[Seen], may_repeat: &[&str], fault: &mut impl FnMut(Kind, String)) {
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    let mut keys: HashMap<&str, (i32, u64)> = HashMap::new();
    for record in seen {
        let expected = next.entry(record.partition).or_default();
        if record.offset != *expected {
            let (partition, before) = (record.partition, *expected - 1);
            let text = format!("partition {partition} goes from {before} to {}", record.offset);
            fault(Kind::Hole, text);
        }
        *expected = record.offset + 1;
        let before = keys.get(record.key.as_str());
        let again = before.is_some_and(|(_, before)| *before >= record.sequence);
        if again && may_repeat.contains(&record.client.as_str()) {
            continue;
        }
        let here = (record.partition, record.sequence);
        if let Some((partition, before)) = keys.insert(&record.key, here) {
            if partition != record.partition {
                fault(Kind::Scattered, format!("key {} is in two partitions", record.key));
            }
            if before >= record.sequence {
                let text = format!("key {} has {} after {before}", record.key, record.sequence);
                fault(Kind::Order, text);
            }
        }
    }
}

/// The first difference between what two consumers saw, whatever order partitions came in.
pub fn same(first: &[Seen], second: &[Seen]) -> Result<(), String> {
    let (first, second): (BTreeSet<&Seen>, BTreeSet<&Seen>) =
        (first.iter().collect(), second.iter().collect());
    match first.symmetric_difference(&second).next() {
        None => Ok(()),
        Some(record) => Err(format!("only one consumer saw {record:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Acked, Seen, judge, parse_acked, parse_seen, same};

    /// Two keys in two partitions, ten records each, and the acknowledgement of each.
    fn good() -> (Vec<Acked>, Vec<Seen>) {
        let mut acked = Vec::new();
        let mut seen = Vec::new();
        for sequence in 0..20_u64 {
            let partition = i32::try_from(sequence % 2).expect("0 or 1");
            let offset = i64::try_from(sequence / 2).expect("small");
            acked.push(Acked { client: "a".to_owned(), sequence, at: Some((partition, offset)) });
            seen.push(Seen {
                partition,
                offset,
                key: format!("a-{partition}"),
                client: "a".to_owned(),
                sequence,
            });
        }
        (acked, seen)
    }

    fn fault(acked: &[Acked], seen: &[Seen]) -> String {
        judge(acked, seen, &[]).expect_err("a planted fault")
    }

    #[test]
    fn a_good_log_is_good() {
        let (acked, seen) = good();
        judge(&acked, &seen, &[]).expect("nothing is wrong");
        same(&seen, &seen).expect("the same");
    }

    #[test]
    fn planted_faults_are_named() {
        let (acked, seen) = good();
        let mut lost = seen.clone();
        lost.pop();
        assert!(fault(&acked, &lost).contains("lost: a 19"));
        assert!(same(&seen, &lost).is_err());

        let mut twice = seen.clone();
        let mut again = twice[18].clone();
        again.offset = 10;
        twice.push(again);
        assert!(fault(&acked, &twice).contains("twice: a 18"));

        // Only a client without idempotence may do that, and no record may be missing behind it.
        judge(&acked, &twice, &["a"]).expect("repeats are allowed");
        let mut gone = twice.clone();
        gone.remove(17);
        assert!(judge(&acked, &gone, &["a"]).expect_err("planted").contains("lost: a 17"));

        let mut swapped = seen.clone();
        (swapped[2].sequence, swapped[4].sequence) = (4, 2);
        assert!(fault(&acked, &swapped).contains("order: key a-0"));
        assert!(fault(&acked, &swapped).contains("moved: a 2"));

        let mut holed = seen;
        holed[18].offset = 11;
        assert!(fault(&acked, &holed).contains("hole: partition 0"));
    }

    #[test]
    fn lines_are_read_strictly() {
        let acked = parse_acked("a", "2\t7\t9\n").expect("a line");
        assert_eq!(acked[0].at, Some((2, 7)));
        assert_eq!(acked[0].sequence, 9);
        assert!(parse_acked("a", "2\t7\n").is_err());
        assert_eq!(parse_seen("2\t7\ta-1\ta\t9\n").expect("a line")[0].key, "a-1");
        // kcat prints the whole value behind the key.
        assert_eq!(parse_seen("2\t7\ta-1\ta 9 glass\n").expect("a line")[0].sequence, 9);
        assert!(parse_seen("junk").is_err());
    }
}
