//! As much of PromQL as it takes to see which series an expression reads, and which labels it
//! speaks of. Whether it is an expression at all is promtool's to say.

/// What an expression names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expression {
    pub selectors: Vec<Selector>,
    /// Labels after `by`, `without`, `on`, `ignoring`, `group_left` and `group_right`.
    pub grouped: Vec<String>,
    /// Labels that `label_replace` makes.
    pub made: Vec<String>,
}

/// A metric's name and what stands in its braces.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selector {
    pub name: String,
    pub matchers: Vec<Matcher>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Matcher {
    pub label: String,
    /// `=`, `!=`, `=~` or `!~`.
    pub op: String,
    pub value: String,
}

const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Words that stand where a metric could.
const WORDS: [&str; 8] = ["and", "or", "unless", "offset", "bool", "inf", "nan", "vector"];

/// Reads `expr`; an error says what it could not follow.
pub fn parse(expr: &str) -> Result<Expression, String> {
    let mut reader = Reader { rest: expr, whole: expr };
    let mut found = Expression::default();
    let mut replacing = false;
    loop {
        reader.skip_space();
        let Some(first) = reader.rest.chars().next() else { return Ok(found) };
        match first {
            '"' | '\'' => {
                let text = reader.text()?;
                if std::mem::take(&mut replacing) {
                    found.made.push(text);
                }
            }
            '[' => reader.skip_past(']')?,
            '0'..='9' => drop(reader.take(|c| c.is_ascii_alphanumeric() || c == '.')),
            c if c.is_ascii_alphabetic() || c == '_' || c == ':' => {
                let word = reader.take(is_word);
                reader.skip_space();
                if GROUPING.contains(&word) {
                    found.grouped.extend(reader.labels()?);
                } else if reader.rest.starts_with('(') || reader.groups_next() {
                    replacing |= word == "label_replace";
                } else if !WORDS.contains(&word) {
                    found.selectors.push(reader.selector(word)?);
                    if found.selectors.last().is_some_and(|s| s.name.is_empty()) {
                        return Err(format!("a selector without a name in `{expr}`"));
                    }
                } else if word == "offset" {
                    let _ = reader.take(is_word);
                }
            }
            _ => reader.rest = &reader.rest[first.len_utf8()..],
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

struct Reader<'a> {
    rest: &'a str,
    whole: &'a str,
}

impl<'a> Reader<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// Whether `by` or `without` comes next: the word before it aggregates.
    fn groups_next(&self) -> bool {
        let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        ["by", "without"].contains(&&self.rest[..end])
    }

    fn skip_past(&mut self, end: char) -> Result<(), String> {
        let at = self.rest.find(end).ok_or_else(|| format!("no `{end}` in `{}`", self.whole))?;
        self.rest = &self.rest[at + end.len_utf8()..];
        Ok(())
    }

    /// A quoted text, backslashes left as they are.
    fn text(&mut self) -> Result<String, String> {
        let quote = self.rest.chars().next().unwrap_or_default();
        let mut escaped = false;
        for (at, c) in self.rest.char_indices().skip(1) {
            if c == quote && !escaped {
                let text = self.rest[1..at].to_owned();
                self.rest = &self.rest[at + 1..];
                return Ok(text);
            }
            escaped = c == '\\' && !escaped;
        }
        Err(format!("a text without an end in `{}`", self.whole))
    }

    /// `(a, b)`, or nothing.
    fn labels(&mut self) -> Result<Vec<String>, String> {
        let Some(rest) = self.rest.strip_prefix('(') else { return Ok(Vec::new()) };
        let end = rest.find(')').ok_or_else(|| format!("no `)` in `{}`", self.whole))?;
        let labels = rest[..end].split(',').map(str::trim).filter(|label| !label.is_empty());
        let labels = labels.map(str::to_owned).collect();
        self.rest = &rest[end + 1..];
        Ok(labels)
    }

    fn selector(&mut self, name: &str) -> Result<Selector, String> {
        let mut selector = Selector { name: name.to_owned(), matchers: Vec::new() };
        let Some(rest) = self.rest.strip_prefix('{') else { return Ok(selector) };
        self.rest = rest;
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\n', ',']);
            if let Some(rest) = self.rest.strip_prefix('}') {
                self.rest = rest;
                return Ok(selector);
            }
            let label = self.take(is_word).to_owned();
            self.skip_space();
            let op = self.take(|c| "=!~".contains(c)).to_owned();
            self.skip_space();
            if label.is_empty() || op.is_empty() || !self.rest.starts_with(['"', '\'']) {
                return Err(format!("the braces of {name} in `{}` are not understood", self.whole));
            }
            let value = self.text()?;
            selector.matchers.push(Matcher { label, op, value });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_matchers_and_groups_are_found() {
        let expr = "sum by (cluster, blocked_by) (rate(glasslog_a_total{x=~\"p_.*\", y!=\"}\"}[30s]))\n\
                    / on (cluster) group_left () sum(glasslog_b offset 1m) > 0.05 and vector(1) or \
                    label_replace(glasslog:c:d == 1, \"made\", \"$1\", \"loop\", \"(.*)/.*\")";
        let found = parse(expr).expect("it is an expression");
        let names: Vec<&str> = found.selectors.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["glasslog_a_total", "glasslog_b", "glasslog:c:d"]);
        let matchers: Vec<(&str, &str, &str)> = found.selectors[0]
            .matchers
            .iter()
            .map(|m| (m.label.as_str(), m.op.as_str(), m.value.as_str()))
            .collect();
        assert_eq!(matchers, [("x", "=~", "p_.*"), ("y", "!=", "}")]);
        assert_eq!(found.grouped, ["cluster", "blocked_by", "cluster"]);
        assert_eq!(found.made, ["made"]);
    }

    #[test]
    fn what_is_not_understood_is_told() {
        for expr in ["a{b}", "a{b=\"c}", "sum by (a", "rate(a[5m"] {
            assert!(parse(expr).is_err(), "{expr}");
        }
    }
}
