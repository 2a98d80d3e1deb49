//! Types and ranges of config values, as Kafka's ConfigDef has them.

/// Kafka's config types, with DescribeConfigs' numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

impl ConfigType {
    pub fn as_str(self) -> &'static str {
        match self {
            ConfigType::Boolean => "boolean",
            ConfigType::String => "string",
            ConfigType::Int => "int",
            ConfigType::Long => "long",
            ConfigType::Double => "double",
            ConfigType::List => "list",
        }
    }
}

/// Which values are valid. Both ends are inclusive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    Any,
    Numbers(i64, i64),
    Fractions(f64, f64),
    OneOf(&'static [&'static str]),
    /// A list whose elements are all among these.
    SomeOf(&'static [&'static str]),
}

impl Range {
    /// `Err`: what would have been valid.
    pub(super) fn check(&self, kind: ConfigType, value: &str) -> Result<(), String> {
        let valid = match (kind, self) {
            (ConfigType::Boolean, _) => parse_bool(value).is_some(),
            (ConfigType::Int, _) => {
                in_numbers(self, value.trim().parse::<i32>().ok().map(i64::from))
            }
            (ConfigType::Long, _) => in_numbers(self, value.trim().parse::<i64>().ok()),
            (ConfigType::Double, Range::Fractions(min, max)) => {
                value.trim().parse::<f64>().is_ok_and(|v| v >= *min && v <= *max)
            }
            (ConfigType::Double, _) => value.trim().parse::<f64>().is_ok_and(f64::is_finite),
            (ConfigType::String, Range::OneOf(values)) => values.contains(&value),
            (ConfigType::List, Range::SomeOf(values)) => list(value).all(|v| values.contains(&v)),
            (ConfigType::String | ConfigType::List, _) => true,
        };
        if valid { Ok(()) } else { Err(self.expected(kind)) }
    }

    fn expected(&self, kind: ConfigType) -> String {
        let kind = kind.as_str();
        match self {
            Range::Any => format!("expected a {kind}"),
            Range::Numbers(min, max) if *max >= i64::from(i32::MAX) => {
                format!("expected a {kind} of at least {min}")
            }
            Range::Numbers(min, max) => format!("expected a {kind} from {min} to {max}"),
            Range::Fractions(min, max) => format!("expected a {kind} from {min} to {max}"),
            Range::OneOf(values) => format!("expected one of {}", values.join(", ")),
            Range::SomeOf(values) => format!("expected a list of {}", values.join(", ")),
        }
    }
}

fn in_numbers(range: &Range, value: Option<i64>) -> bool {
    match (range, value) {
        (Range::Numbers(min, max), Some(value)) => (*min..=*max).contains(&value),
        (_, value) => value.is_some(),
    }
}

pub(super) fn parse_bool(value: &str) -> Option<bool> {
    match value.trim() {
        v if v.eq_ignore_ascii_case("true") => Some(true),
        v if v.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Elements of a list value: separated by commas, blanks around them ignored.
pub(super) fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|element| !element.is_empty())
}
