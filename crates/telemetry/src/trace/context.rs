//! The caller's place in its own trace: the W3C `traceparent` header of a record.
//!
//! Invariant: whatever the bytes are, this says something about them or nothing; it never panics
//! and never looks further than the header's fixed length.

/// Name of the record header (W3C Trace Context).
pub const TRACEPARENT: &[u8] = b"traceparent";

/// Bytes of version, trace id, parent id and flags with the dashes between them.
const LENGTH: usize = 55;
const SAMPLED: u8 = 1;

/// Who caused a request, in the caller's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub trace: [u8; 16],
    pub span: [u8; 8],
    /// The caller keeps its part of the trace.
    pub sampled: bool,
}

impl Caller {
    /// Reads the header's value. `None`: it is not one, or stands for no trace.
    pub fn parse(value: &[u8]) -> Option<Caller> {
        let (head, rest) = value.split_at_checked(LENGTH)?;
        let version = byte(head, 0)?;
        // Version ff is forbidden; a later version may add fields behind a dash, 00 may not.
        if version == 0xff || (version == 0 && !rest.is_empty()) {
            return None;
        }
        if rest.first().is_some_and(|next| *next != b'-') {
            return None;
        }
        if [2, 35, 52].iter().any(|at| head[*at] != b'-') {
            return None;
        }
        let trace: [u8; 16] = bytes(head, 3)?;
        let span: [u8; 8] = bytes(head, 36)?;
        if trace == [0; 16] || span == [0; 8] {
            return None;
        }
        Some(Caller { trace, span, sampled: byte(head, 53)? & SAMPLED != 0 })
    }
}

/// `N` bytes in lower-case hexadecimal from `at` on.
fn bytes<const N: usize>(text: &[u8], at: usize) -> Option<[u8; N]> {
    let mut out = [0; N];
    for (position, slot) in out.iter_mut().enumerate() {
        *slot = byte(text, at + 2 * position)?;
    }
    Some(out)
}

fn byte(text: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| match text.get(at)? {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    Some(digit(at)? << 4 | digit(at + 1)?)
}

/// Bytes as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_specification_is_read() {
        let caller = Caller::parse(GOOD).unwrap();
        assert_eq!(hex(&caller.trace), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(hex(&caller.span), "00f067aa0ba902b7");
        assert!(caller.sampled);
        let unsampled = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        assert!(!Caller::parse(unsampled).unwrap().sampled);
        let later = b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes";
        assert!(Caller::parse(later).unwrap().sampled);
    }

    #[test]
    fn what_is_none_is_none() {
        for bad in [
            &b""[..],
            b"00",
            b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            b"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            &[0xff; 55],
            &[0; 4096],
        ] {
            assert_eq!(Caller::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn no_cut_and_no_flipped_byte_panics() {
        for cut in 0..GOOD.len() {
            assert_eq!(Caller::parse(&GOOD[..cut]), None);
        }
        for at in 0..GOOD.len() {
            for value in 0..=255 {
                let mut bytes = GOOD.to_vec();
                bytes[at] = value;
                // Says something or nothing.
                let _ = Caller::parse(&bytes);
            }
        }
    }
}
