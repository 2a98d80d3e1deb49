//! What a configuration key accepts. A check turns the text of a value into its type, says
//! in words what is allowed, and is the only place that knows either.
//!
//! Invariant: a default goes through the same check as a value from the file, so a default
//! that its own check refuses cannot ship (a test parses every one).

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use super::endpoint::{Address, HostName, InitialBroker, Listener};

/// A value as the file gives it: a scalar as text, or a list of scalars as texts.
/// `"a,b"` and `["a", "b"]` mean the same wherever a list is wanted, as in Kafka's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    Scalar(String),
    List(Vec<String>),
}

impl Raw {
    /// The one text of this value; a list of one counts as a scalar.
    pub fn text(&self) -> Option<&str> {
        match self {
            Raw::Scalar(text) => Some(text.trim()),
            Raw::List(items) => match items.as_slice() {
                [only] => Some(only.trim()),
                _ => None,
            },
        }
    }

    fn items(&self) -> Vec<&str> {
        let split = |text: &'_ str| !text.trim().is_empty();
        match self {
            Raw::Scalar(text) => text.split(',').filter(|t| split(t)).map(str::trim).collect(),
            Raw::List(items) => items.iter().map(|t| t.trim()).collect(),
        }
    }
}

impl Display for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Raw::Scalar(text) => f.write_str(text),
            Raw::List(items) => write!(f, "[{}]", items.join(", ")),
        }
    }
}

/// Accepts a value or says why not; `None` as the reason means "see what is allowed".
pub trait Check {
    type Out;
    fn accept(&self, raw: &Raw) -> Result<Self::Out, Option<String>>;
    /// What is allowed, as the end of the sentence "allowed is ...".
    fn allowed(&self) -> String;
}

/// A whole number within bounds, both included.
pub struct Whole<T>(pub RangeInclusive<T>);

impl<T: FromStr + Display + PartialOrd> Check for Whole<T> {
    type Out = T;
    fn accept(&self, raw: &Raw) -> Result<T, Option<String>> {
        let value = raw.text().ok_or(None)?.parse::<T>().map_err(|_| None)?;
        if self.0.contains(&value) { Ok(value) } else { Err(None) }
    }
    fn allowed(&self) -> String {
        format!("a whole number from {} to {}", self.0.start(), self.0.end())
    }
}

/// -1 (no limit), or a whole number within bounds.
pub struct Unlimited(pub RangeInclusive<i64>);

impl Check for Unlimited {
    type Out = i64;
    fn accept(&self, raw: &Raw) -> Result<i64, Option<String>> {
        match raw.text() {
            Some("-1") => Ok(-1),
            _ => Whole(self.0.clone()).accept(raw),
        }
    }
    fn allowed(&self) -> String {
        format!("-1 for no limit, or {}", Whole(self.0.clone()).allowed())
    }
}

/// Unset (the empty text) or what the inner check accepts.
pub struct Maybe<C>(pub C);

impl<C: Check> Check for Maybe<C> {
    type Out = Option<C::Out>;
    fn accept(&self, raw: &Raw) -> Result<Self::Out, Option<String>> {
        match raw.text() {
            Some("") => Ok(None),
            _ => self.0.accept(raw).map(Some),
        }
    }
    fn allowed(&self) -> String {
        format!("{}, or \"\" for unset", self.0.allowed())
    }
}

/// `http://host:port`, and nothing behind it.
pub struct Collector;

impl Check for Collector {
    type Out = String;
    fn accept(&self, raw: &Raw) -> Result<String, Option<String>> {
        let text = raw.text().ok_or(None)?;
        let address = text.strip_prefix("http://").ok_or(None)?;
        let address = address.strip_suffix('/').unwrap_or(address);
        let (host, port) = address.rsplit_once(':').ok_or(None)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        let sound = !host.is_empty() && host.len() <= 255 && host.chars().all(plain);
        match port.parse::<u16>() {
            Ok(port) if sound && port > 0 => Ok(format!("http://{address}")),
            _ => Err(None),
        }
    }
    fn allowed(&self) -> String {
        "http://host:port".into()
    }
}

/// `true` or `false`.
pub struct Flag;

impl Check for Flag {
    type Out = bool;
    fn accept(&self, raw: &Raw) -> Result<bool, Option<String>> {
        match raw.text() {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            _ => Err(None),
        }
    }
    fn allowed(&self) -> String {
        "true or false".into()
    }
}

/// One of a closed set of words.
pub struct OneOf<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy> Check for OneOf<T> {
    type Out = T;
    fn accept(&self, raw: &Raw) -> Result<T, Option<String>> {
        let text = raw.text().ok_or(None)?;
        self.0.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or(None)
    }
    fn allowed(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        words.join(" or ")
    }
}

/// A setting that other brokers have and that this one refuses by design: one word is
/// allowed, and the reason says why.
pub struct Only {
    pub word: &'static str,
    pub because: &'static str,
}

impl Check for Only {
    type Out = ();
    fn accept(&self, raw: &Raw) -> Result<(), Option<String>> {
        if raw.text() == Some(self.word) { Ok(()) } else { Err(Some(self.because.into())) }
    }
    fn allowed(&self) -> String {
        format!("{} only", self.word)
    }
}

/// A short text without control characters.
pub struct Text {
    pub len_max: usize,
}

impl Check for Text {
    type Out = String;
    fn accept(&self, raw: &Raw) -> Result<String, Option<String>> {
        let text = raw.text().ok_or(None)?;
        let fits = text.len() <= self.len_max && !text.chars().any(char::is_control);
        if fits { Ok(text.to_owned()) } else { Err(None) }
    }
    fn allowed(&self) -> String {
        format!("a text of at most {} bytes without control characters", self.len_max)
    }
}

/// What a type's own `FromStr` accepts.
pub struct Parsed<T> {
    pub allowed: &'static str,
    pub as_type: std::marker::PhantomData<T>,
}

impl<T> Parsed<T> {
    pub const fn new(allowed: &'static str) -> Self {
        Parsed { allowed, as_type: std::marker::PhantomData }
    }
}

impl<T: FromStr> Check for Parsed<T> {
    type Out = T;
    fn accept(&self, raw: &Raw) -> Result<T, Option<String>> {
        raw.text().ok_or(None)?.parse().map_err(|_| None)
    }
    fn allowed(&self) -> String {
        self.allowed.into()
    }
}

/// One directory.
pub struct Directory;

impl Check for Directory {
    type Out = PathBuf;
    fn accept(&self, raw: &Raw) -> Result<PathBuf, Option<String>> {
        match raw.items().as_slice() {
            [one] => Ok(PathBuf::from(one)),
            [] => Err(None),
            _ => Err(Some("a broker keeps one journal, so it takes one directory".into())),
        }
    }
    fn allowed(&self) -> String {
        "the path of one directory".into()
    }
}

/// `host:port` to listen on; an empty host means every interface.
pub struct Bind;

impl Check for Bind {
    type Out = Address;
    fn accept(&self, raw: &Raw) -> Result<Address, Option<String>> {
        raw.text().ok_or(None)?.parse().map_err(Some)
    }
    fn allowed(&self) -> String {
        "host:port, an empty host for every interface".into()
    }
}

/// A list of things that know how to parse themselves, bounded.
pub struct ListOf<T> {
    pub len: RangeInclusive<usize>,
    pub allowed: &'static str,
    pub as_type: std::marker::PhantomData<T>,
}

impl<T> ListOf<T> {
    pub const fn new(len: RangeInclusive<usize>, allowed: &'static str) -> Self {
        ListOf { len, allowed, as_type: std::marker::PhantomData }
    }
}

impl<T: FromStr<Err = String>> Check for ListOf<T> {
    type Out = Vec<T>;
    fn accept(&self, raw: &Raw) -> Result<Vec<T>, Option<String>> {
        let items = raw.items();
        if !self.len.contains(&items.len()) {
            let (min, max) = (self.len.start(), self.len.end());
            return Err(Some(format!("{} given, {min} to {max} are allowed", items.len())));
        }
        items.into_iter().map(|item| item.parse().map_err(Some)).collect()
    }
    fn allowed(&self) -> String {
        self.allowed.into()
    }
}

/// `NAME://host:port`, several as a list.
pub const fn listener_list(min: usize) -> ListOf<Listener> {
    let allowed = "a list of NAME://host:port";
    ListOf::new(min..=model::limits::LISTENERS_MAX, allowed)
}

/// `id@host:port`, several as a list.
pub const fn broker_list() -> ListOf<InitialBroker> {
    ListOf::new(0..=model::limits::INITIAL_BROKERS_MAX, "a list of id@host:port")
}

/// Names of hosts, several as a list.
pub const fn host_list() -> ListOf<HostName> {
    ListOf::new(0..=model::limits::ADMIN_HOSTS_MAX, "a list of host names without ports")
}
