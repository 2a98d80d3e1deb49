//! A panel's unit from the ends of its metrics' names: `_seconds`, `_bytes`, `_total`.
//!
//! It is read where that keeps it true: an expression that is a ratio must say its unit itself.

use crate::promql;

/// What an axis counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Bytes,
    BytesPerSecond,
    PerSecond,
    Count,
    /// 1 is all of it; of CPU time one core.
    Share,
}

impl Unit {
    /// Grafana's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Unit::Seconds => "s",
            Unit::Bytes => "bytes",
            Unit::BytesPerSecond => "Bps",
            Unit::PerSecond => "ops",
            Unit::Count => "short",
            Unit::Share => "percentunit",
        }
    }
}

/// The one unit of all these expressions; an error where they differ or do not tell.
pub fn of<'a>(exprs: impl Iterator<Item = &'a str>) -> Result<Unit, String> {
    let mut found: Option<Unit> = None;
    for expr in exprs {
        let unit = of_one(expr)?;
        if found.is_some_and(|found| found != unit) {
            return Err(format!("mixes {found:?} and {unit:?}: split it, or give its unit"));
        }
        found = Some(unit);
    }
    found.ok_or_else(|| "has no expression".to_owned())
}

fn of_one(expr: &str) -> Result<Unit, String> {
    let parsed = promql::parse(expr)?;
    let mut names = parsed.selectors.iter().map(|selector| selector.name.as_str());
    let name = names.next().ok_or_else(|| format!("`{expr}` names no metric: give its unit"))?;
    let mean = names.next().is_some_and(|second| {
        name.strip_suffix("_sum").is_some_and(|base| second.strip_suffix("_count") == Some(base))
    });
    let is_ratio = expr.contains(") /") || expr.contains("} /");
    if is_ratio && !mean {
        return Err(format!("`{expr}` is a ratio: give its unit"));
    }
    let observed = !mean && name.ends_with("_count");
    let base = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
        .unwrap_or(name);
    let counter = base.strip_suffix("_total");
    let per_second = counter.is_some() && expr.contains("rate(");
    Ok(match counter.unwrap_or(base) {
        _ if observed => Unit::PerSecond,
        base if base.ends_with("_seconds") || base.contains("_seconds_") => {
            if per_second {
                Unit::Share
            } else {
                Unit::Seconds
            }
        }
        base if base.ends_with("_bytes") || base.contains("bytes_") => {
            if per_second {
                Unit::BytesPerSecond
            } else {
                Unit::Bytes
            }
        }
        _ if per_second => Unit::PerSecond,
        _ => Unit::Count,
    })
}

#[cfg(test)]
mod tests {
    use super::{Unit, of};

    #[test]
    fn units_come_from_names() {
        let cases = [
            ("sum by (x) (rate(glasslog_a_total[1m]))", Unit::PerSecond),
            ("sum by (x) (increase(glasslog_a_total[1m]))", Unit::Count),
            ("rate(glasslog_cpu_seconds_total[1m])", Unit::Share),
            ("rate(glasslog_bytes_in_total[1m])", Unit::BytesPerSecond),
            ("glasslog_journal_bytes", Unit::Bytes),
            ("glasslog_lease_remaining_seconds_min", Unit::Seconds),
            ("histogram_quantile(0.5, rate(glasslog_a_seconds_bucket[1m]))", Unit::Seconds),
            (
                "sum(rate(glasslog_a_seconds_sum[1m])) / sum(rate(glasslog_a_seconds_count[1m]))",
                Unit::Seconds,
            ),
            ("sum(rate(glasslog_a_seconds_count[1m]))", Unit::PerSecond),
            ("glasslog_partitions", Unit::Count),
        ];
        for (expr, unit) in cases {
            assert_eq!(of([expr].into_iter()), Ok(unit), "{expr}");
        }
    }

    #[test]
    fn what_the_names_do_not_tell_is_asked_for() {
        let ratio = "sum(rate(glasslog_a_total[1m])) / sum(rate(glasslog_b_total[1m]))";
        assert!(of([ratio].into_iter()).is_err());
        assert!(of(["glasslog_a_bytes", "glasslog_a_seconds"].into_iter()).is_err());
        assert!(of(["up"].into_iter()).is_ok());
    }
}
