//! What must be true of a consumer group, judged by what its members printed: every record of the
//! topic was read by somebody, a member never skips or turns back within an assignment, and an
//! assignment begins at or behind nothing that was committed before it.
//!
//! A member's lines are records (see [`crate::oracle`]) and events, `KIND<TAB>MS<TAB>TEXT`, where
//! MS is the wall clock of the machine that all members share.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::oracle::{self, Acked, Seen};

/// Faults that are listed by name; more are only counted.
const SHOWN_MAX: usize = 8;

/// One line of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    Record(Seen),
    Assigned {
        ms: u64,
        partitions: BTreeSet<i32>,
    },
    /// `None`: all of them.
    Revoked(Option<BTreeSet<i32>>),
    Committed {
        ms: u64,
        next: BTreeMap<i32, i64>,
    },
    /// The program failed while it worked on what it had printed, and its client hands it over once
    /// more from these offsets on, without a new assignment.
    Rewound(BTreeMap<i32, i64>),
    /// Something that the client says and recovers from by itself.
    Note,
    /// Something that the client calls fatal.
    Error(String),
    Left,
}

/// Reads a member's lines.
pub fn parse(text: &str) -> Result<Vec<Line>, String> {
    text.lines()
        .map(|line| parse_line(line).ok_or_else(|| format!("no line of a member: `{line}`")))
        .collect()
}

fn parse_line(line: &str) -> Option<Line> {
    if line.starts_with(|first: char| first.is_ascii_digit()) {
        return oracle::parse_seen(line).ok()?.pop().map(Line::Record);
    }
    let mut words = line.splitn(3, '\t');
    let (kind, ms, text) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    let list = || text.split(',').filter(|word| !word.is_empty());
    let numbers = || list().map(|word| word.parse().ok()).collect::<Option<BTreeSet<i32>>>();
    let place = |word: &str| {
        let (partition, offset) = word.split_once(':')?;
        Some((partition.parse().ok()?, offset.parse().ok()?))
    };
    let places = || list().map(place).collect::<Option<BTreeMap<i32, i64>>>();
    Some(match kind {
        "assigned" => Line::Assigned { ms, partitions: numbers()? },
        "revoked" | "lost" if text == "all" => Line::Revoked(None),
        "revoked" | "lost" => Line::Revoked(Some(numbers()?)),
        "committed" => Line::Committed { ms, next: places()? },
        "rewound" => Line::Rewound(places()?),
        "note" => Line::Note,
        "error" => Line::Error(text.to_owned()),
        "left" => Line::Left,
        _ => return None,
    })
}

/// What a member holds after these lines.
pub fn holdings(lines: &[Line], partitions: i32) -> BTreeSet<i32> {
    let mut held = BTreeSet::new();
    for line in lines {
        match line {
            Line::Assigned { partitions, .. } => held.extend(partitions),
            Line::Revoked(Some(gone)) => held.retain(|partition| !gone.contains(partition)),
            Line::Revoked(None) | Line::Left => held.clear(),
            _ => {}
        }
    }
    held.retain(|partition| (0..partitions).contains(partition));
    held
}

/// Whether each of `held` has something, nobody has what another has, and nothing is missing.
pub fn is_shared_out(held: &[BTreeSet<i32>], partitions: i32) -> bool {
    let all: BTreeSet<i32> = held.iter().flatten().copied().collect();
    let sum: usize = held.iter().map(BTreeSet::len).sum();
    held.iter().all(|one| !one.is_empty())
        && sum == all.len()
        && all == (0..partitions).collect::<BTreeSet<i32>>()
}

/// Judges a group by what its members printed; the answer is how many records were read more than
/// once, which a rebalance may cause.
pub fn judge(acked: &[Acked], members: &[Vec<Line>], may_repeat: &[&str]) -> Result<usize, String> {
    let mut faults = Vec::new();
    let commits: Vec<(u64, &BTreeMap<i32, i64>)> = members
        .iter()
        .flatten()
        .filter_map(|line| match line {
            Line::Committed { ms, next } => Some((*ms, next)),
            _ => None,
        })
        .collect();
    let mut read = 0;
    let mut union = BTreeSet::new();
    for (number, lines) in (1..).zip(members) {
        member(number, lines, &commits, &mut faults);
        for line in lines {
            if let Line::Record(seen) = line {
                read += 1;
                union.insert(seen.clone());
            }
        }
    }
    if !faults.is_empty() {
        let shown = faults[..faults.len().min(SHOWN_MAX)].join("\n      ");
        return Err(format!("{} faults\n      {shown}", faults.len()));
    }
    // Partition by partition, in the order of offsets: a log like any other.
    let union: Vec<Seen> = union.into_iter().collect();
    oracle::judge(acked, &union, may_repeat)?;
    Ok(read - union.len())
}

/// Follows one member through its assignments.
fn member(
    number: usize,
    lines: &[Line],
    commits: &[(u64, &BTreeMap<i32, i64>)],
    faults: &mut Vec<String>,
) {
    let mut next: HashMap<i32, i64> = HashMap::new();
    let mut fresh: HashMap<i32, u64> = HashMap::new();
    for line in lines {
        match line {
            Line::Assigned { ms, partitions } => {
                for partition in partitions {
                    next.remove(partition);
                    fresh.insert(*partition, *ms);
                }
            }
            Line::Record(seen) => {
                let (partition, offset) = (seen.partition, seen.offset);
                if let Some(expected) = next.insert(partition, offset + 1)
                    && expected != offset
                {
                    faults.push(format!(
                        "member {number} jumps in partition {partition} from {expected} to {offset}"
                    ));
                }
                if let Some(since) = fresh.remove(&partition) {
                    let known = commits.iter().filter(|(ms, _)| *ms < since);
                    let behind = known.filter_map(|(_, next)| next.get(&partition)).max();
                    if let Some(committed) = behind.filter(|committed| **committed > offset) {
                        faults.push(format!(
                            "member {number} begins partition {partition} at {offset}, \
                             {committed} was committed before"
                        ));
                    }
                }
            }
            Line::Rewound(places) => {
                for (partition, offset) in places {
                    // A new assignment came first: the client begins where that says.
                    let Some(expected) = next.get_mut(partition) else { continue };
                    if *expected < *offset {
                        faults.push(format!(
                            "member {number} is rewound to {offset} in partition {partition}, \
                             where it has not been"
                        ));
                    }
                    *expected = *offset;
                }
            }
            Line::Error(text) => faults.push(format!("member {number}: {text}")),
            _ => {}
        }
    }
    if lines.last() != Some(&Line::Left) {
        faults.push(format!("member {number} did not leave"));
    }
}

#[cfg(test)]
mod tests {
    use super::{holdings, is_shared_out, judge, parse};
    use crate::oracle::Acked;
    use std::collections::BTreeSet;

    fn record(partition: i32, offset: i64) -> String {
        format!("{partition}\t{offset}\ta-{partition}\ta\t{}\n", offset * 2 + i64::from(partition))
    }

    /// Two partitions of four records; the first member hands partition 1 over after two.
    fn good() -> (Vec<Acked>, String, String) {
        let acked = (0..8)
            .map(|sequence| Acked {
                client: "a".to_owned(),
                sequence,
                at: Some(((sequence % 2) as i32, (sequence / 2) as i64)),
            })
            .collect();
        let first = [
            "assigned\t10\t0,1\n".to_owned(),
            (0..4).map(|offset| record(0, offset)).collect(),
            (0..2).map(|offset| record(1, offset)).collect(),
            "committed\t20\t0:4,1:2\nrevoked\t21\t1\nleft\t90\t\n".to_owned(),
        ];
        let second = [
            "assigned\t30\t1\n".to_owned(),
            (2..4).map(|offset| record(1, offset)).collect(),
            "committed\t40\t1:4\nleft\t90\t\n".to_owned(),
        ];
        (acked, first.concat(), second.concat())
    }

    fn judged(acked: &[Acked], first: &str, second: &str) -> Result<usize, String> {
        judge(acked, &[parse(first).expect("lines"), parse(second).expect("lines")], &[])
    }

    #[test]
    fn a_good_group_is_good_and_repeats_are_counted() {
        let (acked, first, second) = good();
        assert_eq!(judged(&acked, &first, &second), Ok(0));
        // Not committed before the hand-over: read twice, which is allowed.
        let first = first.replace("0:4,1:2", "0:4,1:1");
        let second = second.replace(&record(1, 2), &(record(1, 1) + &record(1, 2)));
        assert_eq!(judged(&acked, &first, &second), Ok(1));
    }

    /// A commit or heartbeat that failed in the middle of a batch: kafkajs hands the batch over again.
    #[test]
    fn what_a_client_hands_over_again_continues_where_it_says() {
        let (acked, first, second) = good();
        let rewound = |to: i64, from: i64| {
            let again: String = (from..4).map(|offset| record(0, offset)).collect();
            first.replace("committed\t20", &format!("rewound\t19\t0:{to}\n{again}committed\t20"))
        };
        assert_eq!(judged(&acked, &rewound(3, 3), &second), Ok(1));
        assert_eq!(judged(&acked, &rewound(2, 2), &second), Ok(2));
        let late = second
            .replace("committed", "rewound\t39\t0:2\nassigned\t39\t1\nrewound\t39\t1:0\ncommitted");
        assert_eq!(judged(&acked, &first, &late), Ok(0));
        let skipped = judged(&acked, &rewound(2, 3), &second).expect_err("planted");
        assert!(skipped.contains("jumps in partition 0 from 2 to 3"), "{skipped}");
    }

    #[test]
    fn planted_faults_are_named() {
        let (acked, first, second) = good();
        let fault = |first: &str, second: &str| judged(&acked, first, second).expect_err("planted");
        let skipped = second.replace(&record(1, 2), "");
        assert!(fault(&first, &skipped).contains("lost: a 5"));
        let jumped = first.replace(&record(0, 1), "");
        assert!(fault(&jumped, &second).contains("jumps in partition 0 from 1 to 2"));
        let again = first.replace("committed\t20", &format!("{}committed\t20", record(0, 3)));
        assert!(fault(&again, &second).contains("jumps in partition 0 from 4 to 3"));
        let ahead = first.replace("committed\t20", "rewound\t20\t0:9\ncommitted\t20");
        assert!(fault(&ahead, &second).contains("rewound to 9 in partition 0"));
        let forgotten = second.replace(&record(1, 2), &(record(1, 1) + &record(1, 2)));
        assert!(fault(&first, &forgotten).contains("begins partition 1 at 1, 2 was committed"));
        let failed = second.replace("committed\t40\t1:4", "error\t40\tfenced");
        assert!(fault(&first, &failed).contains("member 2: fenced"));
        let stayed = second.replace("left\t90\t\n", "");
        assert!(fault(&first, &stayed).contains("did not leave"));
    }

    #[test]
    fn holdings_follow_both_protocols() {
        let eager = parse("assigned\t1\t0,1,2\nrevoked\t2\tall\nassigned\t3\t2\n").expect("lines");
        assert_eq!(holdings(&eager, 3), BTreeSet::from([2]));
        let moved = parse("assigned\t1\t0,1\nrevoked\t2\t1\nassigned\t3\t\n").expect("lines");
        assert_eq!(holdings(&moved, 3), BTreeSet::from([0]));
        assert!(parse("assigned\tsoon\t1\n").is_err());
    }

    #[test]
    fn shared_out_means_all_of_it_once_and_something_for_each() {
        let sets = |lists: &[&[i32]]| -> Vec<BTreeSet<i32>> {
            lists.iter().map(|list| list.iter().copied().collect()).collect()
        };
        assert!(is_shared_out(&sets(&[&[0, 2], &[1]]), 3));
        assert!(!is_shared_out(&sets(&[&[0, 2], &[]]), 3));
        assert!(!is_shared_out(&sets(&[&[0, 1], &[1, 2]]), 3));
        assert!(!is_shared_out(&sets(&[&[0], &[1]]), 3));
    }
}
