//! The types a field may have. Everything a version changes about one field travels in
//! [`Shape`]; which fields exist is the business of the declarations in `api`.

use bytes::Bytes;
use model::{DirectoryId, ErrorCode, TopicId};

use super::decoder::{Decoder, Prefix};
use super::encoder::Encoder;
use crate::WireError;

/// How one field is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub version: i16,
    /// KIP-482: compact lengths, and tagged fields behind every structure.
    pub flexible: bool,
    /// This field may be null in this version.
    pub nullable: bool,
}

impl Shape {
    pub(crate) fn nullable(self, nullable: bool) -> Shape {
        Shape { nullable, ..self }
    }
}

/// A value with an encoding of its own.
pub trait Field: Sized {
    fn read(decoder: &mut Decoder, shape: Shape) -> Result<Self, WireError>;
    fn write(&self, encoder: &mut Encoder, shape: Shape) -> Result<(), WireError>;
}

macro_rules! integer_field {
    ($($ty:ty)*) => {$(
        impl Field for $ty {
            fn read(decoder: &mut Decoder, _: Shape) -> Result<Self, WireError> {
                decoder.array().map(<$ty>::from_be_bytes)
            }
            fn write(&self, encoder: &mut Encoder, _: Shape) -> Result<(), WireError> {
                encoder.put(&self.to_be_bytes());
                Ok(())
            }
        }
    )*};
}
integer_field!(i8 i16 i32 i64 u16);

impl Field for bool {
    fn read(decoder: &mut Decoder, _: Shape) -> Result<Self, WireError> {
        decoder.array::<1>().map(|[byte]| byte != 0)
    }
    fn write(&self, encoder: &mut Encoder, _: Shape) -> Result<(), WireError> {
        encoder.put(&[u8::from(*self)]);
        Ok(())
    }
}

/// A code of a newer Kafka than ours reads as UNKNOWN_SERVER_ERROR, as Kafka's clients do.
impl Field for ErrorCode {
    fn read(decoder: &mut Decoder, _: Shape) -> Result<Self, WireError> {
        let code = decoder.i16()?;
        Ok(ErrorCode::from_i16(code).unwrap_or(ErrorCode::UnknownServerError))
    }
    fn write(&self, encoder: &mut Encoder, _: Shape) -> Result<(), WireError> {
        encoder.put(&self.code().to_be_bytes());
        Ok(())
    }
}

macro_rules! uuid_field {
    ($($ty:ident)*) => {$(
        impl Field for $ty {
            fn read(decoder: &mut Decoder, _: Shape) -> Result<Self, WireError> {
                decoder.array().map($ty)
            }
            fn write(&self, encoder: &mut Encoder, _: Shape) -> Result<(), WireError> {
                encoder.put(&self.0);
                Ok(())
            }
        }
    )*};
}
uuid_field!(TopicId DirectoryId);

/// A value behind a length, which may be null.
trait Prefixed: Sized {
    const PREFIX: Prefix;
    fn length(&self) -> usize;
    fn decode_content(d: &mut Decoder, length: usize, shape: Shape) -> Result<Self, WireError>;
    fn encode_content(&self, e: &mut Encoder, shape: Shape) -> Result<(), WireError>;
}

impl Prefixed for String {
    const PREFIX: Prefix = Prefix::Short;
    fn length(&self) -> usize {
        self.len()
    }
    fn decode_content(d: &mut Decoder, length: usize, _: Shape) -> Result<Self, WireError> {
        d.text(length)
    }
    fn encode_content(&self, e: &mut Encoder, _: Shape) -> Result<(), WireError> {
        e.put(self.as_bytes());
        Ok(())
    }
}

impl Prefixed for Bytes {
    const PREFIX: Prefix = Prefix::Long;
    fn length(&self) -> usize {
        self.len()
    }
    fn decode_content(d: &mut Decoder, length: usize, _: Shape) -> Result<Self, WireError> {
        d.slice(length)
    }
    fn encode_content(&self, e: &mut Encoder, _: Shape) -> Result<(), WireError> {
        e.put_shared(self);
        Ok(())
    }
}

impl<T: Field> Prefixed for Vec<T> {
    const PREFIX: Prefix = Prefix::Long;
    fn length(&self) -> usize {
        self.len()
    }
    fn decode_content(d: &mut Decoder, length: usize, shape: Shape) -> Result<Self, WireError> {
        d.elements(length, shape.nullable(false))
    }
    fn encode_content(&self, e: &mut Encoder, shape: Shape) -> Result<(), WireError> {
        self.iter().try_for_each(|element| element.write(e, shape.nullable(false)))
    }
}

impl<T: Prefixed> Field for Option<T> {
    fn read(decoder: &mut Decoder, shape: Shape) -> Result<Self, WireError> {
        match decoder.length(T::PREFIX, shape.flexible)? {
            Some(length) => T::decode_content(decoder, length, shape).map(Some),
            None if shape.nullable => Ok(None),
            None => Err(WireError::UnexpectedNull),
        }
    }
    fn write(&self, encoder: &mut Encoder, shape: Shape) -> Result<(), WireError> {
        encoder.put_length(self.as_ref().map(T::length), T::PREFIX, shape)?;
        self.as_ref().map_or(Ok(()), |value| value.encode_content(encoder, shape))
    }
}

macro_rules! prefixed_field {
    ($([$($generic:tt)*] $ty:ty;)*) => {$(
        impl<$($generic)*> Field for $ty {
            fn read(decoder: &mut Decoder, shape: Shape) -> Result<Self, WireError> {
                let length = decoder.length(Self::PREFIX, shape.flexible)?;
                Self::decode_content(decoder, length.ok_or(WireError::UnexpectedNull)?, shape)
            }
            fn write(&self, encoder: &mut Encoder, shape: Shape) -> Result<(), WireError> {
                encoder.put_length(Some(self.length()), Self::PREFIX, shape)?;
                self.encode_content(encoder, shape)
            }
        }
    )*};
}
prefixed_field! {
    [] String;
    [] Bytes;
    [T: Field] Vec<T>;
}
