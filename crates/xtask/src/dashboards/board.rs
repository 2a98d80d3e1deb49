//! What a dashboard is made of: rows of panels, each with expressions and a sentence.
//!
//! An expression stands for the brokers that are chosen at the top of the page: the helpers below
//! put [`HERE`] into every selector, and Grafana's own interval into every rate. A panel's unit is
//! read from the names of its metrics ([`super::unit`]) unless it is given.

use super::unit::Unit;

/// The brokers that are chosen.
pub const HERE: &str = r#"cluster=~"$cluster", instance=~"$instance""#;
/// What a rate is taken over: wide enough for two scrapes, as wide as a pixel.
pub const INTERVAL: &str = "$__rate_interval";

/// One page.
#[derive(Debug)]
pub struct Board {
    /// File name, and the uid after `glasslog-`.
    pub id: &'static str,
    pub title: &'static str,
    pub about: &'static str,
    pub rows: Vec<Row>,
}

/// Panels under one heading.
#[derive(Debug)]
pub struct Row {
    pub title: &'static str,
    pub panels: Vec<Panel>,
}

/// How a panel shows what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Lines,
    /// Parts of a whole.
    Stacked,
    /// One number, the latest.
    Number,
    /// The latest labels and values.
    Table,
}

#[derive(Debug)]
pub struct Panel {
    pub title: &'static str,
    /// What it shows, and what a bad value means.
    pub about: &'static str,
    pub shape: Shape,
    pub unit: Option<Unit>,
    /// From here on a number is red.
    pub red_from: Option<f64>,
    pub queries: Vec<Query>,
}

#[derive(Debug)]
pub struct Query {
    /// `{{label}}` is replaced by its value.
    pub legend: &'static str,
    pub expr: String,
}

pub fn row(title: &'static str, panels: Vec<Panel>) -> Row {
    Row { title, panels }
}

pub fn lines(title: &'static str, about: &'static str) -> Panel {
    panel(Shape::Lines, title, about)
}

pub fn stacked(title: &'static str, about: &'static str) -> Panel {
    panel(Shape::Stacked, title, about)
}

pub fn number(title: &'static str, about: &'static str) -> Panel {
    panel(Shape::Number, title, about)
}

pub fn table(title: &'static str, about: &'static str) -> Panel {
    panel(Shape::Table, title, about)
}

fn panel(shape: Shape, title: &'static str, about: &'static str) -> Panel {
    Panel { title, about, shape, unit: None, red_from: None, queries: Vec::new() }
}

impl Panel {
    /// One more expression.
    pub fn of(mut self, legend: &'static str, expr: impl Into<String>) -> Panel {
        self.queries.push(Query { legend, expr: expr.into() });
        self
    }

    /// Where the metrics' names do not tell the unit, as of a ratio.
    pub fn unit(mut self, unit: Unit) -> Panel {
        self.unit = Some(unit);
        self
    }

    /// A number that should be lower than this.
    pub fn red_from(mut self, value: f64) -> Panel {
        self.red_from = Some(value);
        self
    }
}

/// `name` or `name{matchers}` of the chosen brokers.
pub fn here(metric: &str) -> String {
    match metric.strip_suffix('}').and_then(|metric| metric.split_once('{')) {
        Some((name, matchers)) => format!("{name}{{{HERE}, {matchers}}}"),
        None => format!("{metric}{{{HERE}}}"),
    }
}

/// The same with the ending of one of a histogram's parts.
fn part(metric: &str, ending: &str) -> String {
    match metric.split_once('{') {
        Some((name, matchers)) => here(&format!("{name}{ending}{{{matchers}")),
        None => here(&format!("{metric}{ending}")),
    }
}

/// Of a counter: how many a second.
pub fn rate(metric: &str, by: &str) -> String {
    format!("sum by ({by}) (rate({}[{INTERVAL}]))", here(metric))
}

/// Of a gauge.
pub fn sum(metric: &str, by: &str) -> String {
    format!("sum by ({by}) ({})", here(metric))
}

/// Of a gauge of which the worst counts.
pub fn max(metric: &str, by: &str) -> String {
    format!("max by ({by}) ({})", here(metric))
}

/// Of a histogram: below this are so many of a hundred.
pub fn quantile(percent: u8, metric: &str, by: &str) -> String {
    let (share, comma) = (f64::from(percent) / 100.0, if by.is_empty() { "" } else { ", " });
    let buckets = part(metric, "_bucket");
    format!("histogram_quantile({share}, sum by (le{comma}{by}) (rate({buckets}[{INTERVAL}])))")
}

/// Of a histogram: the mean.
pub fn mean(metric: &str, by: &str) -> String {
    let [sum, count] = ["_sum", "_count"].map(|ending| part(metric, ending));
    format!("sum by ({by}) (rate({sum}[{INTERVAL}])) / sum by ({by}) (rate({count}[{INTERVAL}]))")
}

/// Of a histogram: observations a second.
pub fn observed(metric: &str, by: &str) -> String {
    format!("sum by ({by}) (rate({}[{INTERVAL}]))", part(metric, "_count"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_selector_is_of_the_chosen_brokers() {
        assert_eq!(here("a"), format!("a{{{HERE}}}"));
        assert_eq!(here(r#"a{b="c"}"#), format!(r#"a{{{HERE}, b="c"}}"#));
        let expected = format!(
            r#"histogram_quantile(0.99, sum by (le, x) (rate(a_bucket{{{HERE}, b="c"}}[{INTERVAL}])))"#
        );
        assert_eq!(quantile(99, r#"a{b="c"}"#, "x"), expected);
    }
}
