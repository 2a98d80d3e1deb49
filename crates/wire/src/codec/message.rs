//! The declaration of messages, field by field, as in Kafka's message definitions:
//!
//! ```text
//! wire_struct! {
//!     pub struct FetchPartition {
//!         partition: i32 [0..],                            // versions the field exists in
//!         current_leader_epoch: i32 [9..] = -1,            // default elsewhere, and if absent
//!         rack: Option<String> [1..] null [1..] = None,    // versions that know null
//!         high_watermark: i64 [18..] tag 1 = i64::MAX,     // tagged: absent when default
//!     }
//! }
//! wire_message!(FetchRequest: Fetch, versions 4..=18, flexible 12..);
//! ```
//!
//! Invariants: a field that its version does not know is not written and reads as its default.
//! Tagged fields are declared in the order of their tags. Unknown tagged fields are skipped.

use std::ops::{RangeFrom, RangeInclusive};

use model::ApiKey;

use super::decoder::Decoder;
use super::encoder::Encoder;
use super::field::{Field, Shape};
use crate::WireError;

/// A request or response body of one API.
pub trait Message: Field {
    const KEY: ApiKey;
    /// Versions this message can be decoded and encoded in.
    const VERSIONS: RangeInclusive<i16>;
    /// Versions with compact lengths and tagged fields (KIP-482).
    const FLEXIBLE: RangeFrom<i16>;

    /// Decodes one body; bytes behind it are left to the caller.
    fn decode(decoder: &mut Decoder, version: i16) -> Result<Self, WireError> {
        <Self as Field>::read(decoder, Self::shape(version)?)
    }

    /// Encodes one body.
    fn encode(&self, encoder: &mut Encoder, version: i16) -> Result<(), WireError> {
        <Self as Field>::write(self, encoder, Self::shape(version)?)
    }

    /// The layout of a version, or the refusal of one this message does not have.
    fn shape(version: i16) -> Result<Shape, WireError> {
        if !Self::VERSIONS.contains(&version) {
            return Err(WireError::UnsupportedVersion { key: Self::KEY, version });
        }
        let flexible = Self::FLEXIBLE.contains(&version);
        Ok(Shape { version, flexible, nullable: false })
    }
}

/// A request, and what answers it.
pub trait Request: Message {
    type Response: Message;
}

/// One field of a structure: each arm takes the tag list first, so that a tagged field
/// expands to nothing among the untagged and the other way round.
macro_rules! wire_field {
    (default $ty:ty, []) => { <$ty as Default>::default() };
    (default $ty:ty, [$default:expr]) => { $default };
    (null $shape:ident, []) => { $shape.nullable(false) };
    (null $shape:ident, [$null:expr]) => { $shape.nullable(($null).contains(&$shape.version)) };

    (decode [] $d:ident, $shape:ident, $place:expr, $versions:expr, $null:tt) => {
        if ($versions).contains(&$shape.version) {
            $place = $crate::Field::read($d, $crate::codec::wire_field!(null $shape, $null))?;
        }
    };
    (decode [$tag:literal] $($rest:tt)*) => {};

    (decode_tagged [] $($rest:tt)*) => {};
    (decode_tagged [$tag:literal] $is:ident, $d:ident, $shape:ident, $place:expr, $versions:expr, $null:tt) => {
        if $is == $tag && ($versions).contains(&$shape.version) {
            $place = $crate::Field::read($d, $crate::codec::wire_field!(null $shape, $null))?;
            return Ok(true);
        }
    };

    (encode [] $e:ident, $shape:ident, $place:expr, $versions:expr, $null:tt) => {
        if ($versions).contains(&$shape.version) {
            $crate::Field::write(&$place, $e, $crate::codec::wire_field!(null $shape, $null))?;
        }
    };
    (encode [$tag:literal] $($rest:tt)*) => {};

    (count_tagged [] $($rest:tt)*) => {};
    (count_tagged [$tag:literal] $count:ident, $shape:ident, $place:expr, $versions:expr, $ty:ty, $default:tt) => {
        if ($versions).contains(&$shape.version)
            && $place != $crate::codec::wire_field!(default $ty, $default)
        {
            $count += 1;
        }
    };

    (encode_tagged [] $($rest:tt)*) => {};
    (encode_tagged [$tag:literal] $e:ident, $shape:ident, $place:expr, $versions:expr, $null:tt, $ty:ty, $default:tt) => {
        if ($versions).contains(&$shape.version)
            && $place != $crate::codec::wire_field!(default $ty, $default)
        {
            $e.put_tagged($tag, &$place, $crate::codec::wire_field!(null $shape, $null))?;
        }
    };
}
pub(crate) use wire_field;

/// Declares structures; see the head of this file.
macro_rules! wire_struct {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $(
                $(#[$field_meta:meta])*
                $field:ident: $ty:ty [$versions:expr]
                    $(null [$null:expr])? $(tag $tag:literal)? $(= $default:expr)?
            ),* $(,)?
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $( $field: $crate::codec::wire_field!(default $ty, [$($default)?]), )* }
            }
        }

        impl $crate::Field for $name {
            fn read(
                d: &mut $crate::Decoder,
                shape: $crate::Shape,
            ) -> Result<Self, $crate::WireError> {
                let mut value = $name::default();
                $( $crate::codec::wire_field!(
                    decode [$($tag)?] d, shape, value.$field, $versions, [$($null)?]
                ); )*
                if shape.flexible {
                    d.tagged_fields(|_d, _tag| {
                        $( $crate::codec::wire_field!(
                            decode_tagged [$($tag)?] _tag, _d, shape, value.$field, $versions,
                            [$($null)?]
                        ); )*
                        Ok(false)
                    })?;
                }
                Ok(value)
            }

            fn write(
                &self,
                e: &mut $crate::Encoder,
                shape: $crate::Shape,
            ) -> Result<(), $crate::WireError> {
                $( $crate::codec::wire_field!(
                    encode [$($tag)?] e, shape, self.$field, $versions, [$($null)?]
                ); )*
                if shape.flexible {
                    #[allow(unused_mut)]
                    let mut count = 0;
                    $( $crate::codec::wire_field!(
                        count_tagged [$($tag)?] count, shape, self.$field, $versions, $ty,
                        [$($default)?]
                    ); )*
                    e.put_uvarint(count);
                    $( $crate::codec::wire_field!(
                        encode_tagged [$($tag)?] e, shape, self.$field, $versions, [$($null)?],
                        $ty, [$($default)?]
                    ); )*
                }
                Ok(())
            }
        }

        #[cfg(test)]
        impl $crate::tests::Arbitrary for $name {
            fn arbitrary(source: &mut $crate::tests::Source, shape: $crate::Shape) -> Self {
                let mut value = $name::default();
                $( if ($versions).contains(&shape.version) {
                    value.$field = $crate::tests::Arbitrary::arbitrary(
                        source,
                        $crate::codec::wire_field!(null shape, [$($null)?]),
                    );
                } )*
                value
            }
        }
    )*};
}
pub(crate) use wire_struct;

/// Makes a declared structure a message of an API, and a request if it names its response.
macro_rules! wire_message {
    ($name:ident: $key:ident, versions $versions:expr, flexible $flexible:expr $(, answered by $response:ident)?) => {
        impl $crate::Message for $name {
            const KEY: model::ApiKey = model::ApiKey::$key;
            const VERSIONS: std::ops::RangeInclusive<i16> = $versions;
            const FLEXIBLE: std::ops::RangeFrom<i16> = $flexible;
        }
        $( impl $crate::Request for $name {
            type Response = $response;
        } )?
    };
}
pub(crate) use wire_message;
