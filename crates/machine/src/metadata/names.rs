//! Which topic names are allowed: Kafka's rules (Topic.java).

use model::limits::TOPIC_NAME_LEN_MAX;

use super::Image;

/// Names of Kafka's and Glasslog's own topics.
pub fn is_internal(name: &str) -> bool {
    name.starts_with("__")
}

/// `Err`: what is wrong with the name, for INVALID_TOPIC_EXCEPTION.
pub fn validate_topic_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        return Err("topic name is empty".into());
    }
    if name == "." || name == ".." {
        return Err("topic name cannot be \".\" or \"..\"".into());
    }
    if name.len() > TOPIC_NAME_LEN_MAX {
        return Err(format!(
            "topic name is {} bytes, the limit is {TOPIC_NAME_LEN_MAX}",
            name.len()
        ));
    }
    if !name.chars().all(legal) {
        return Err(format!(
            "topic name {name:?} contains a character other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}

/// The other topic whose metrics would get the same name: '.' and '_' count as one.
pub(super) fn collision<'a>(image: &'a Image, name: &str) -> Option<&'a str> {
    if !name.contains(['.', '_']) {
        return None;
    }
    let alike = |a: u8, b: u8| a == b || (matches!(a, b'.' | b'_') && matches!(b, b'.' | b'_'));
    image.topics().map(|topic| topic.name.as_str()).find(|other| {
        *other != name
            && other.len() == name.len()
            && other.bytes().zip(name.bytes()).all(|(a, b)| alike(a, b))
    })
}
