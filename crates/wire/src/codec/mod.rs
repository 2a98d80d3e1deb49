//! How fields become bytes and bytes become fields: the two cursors, the types a field may
//! have, and the macro that declares messages field by field.

mod decoder;
mod encoder;
mod field;
mod message;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use field::{Field, Shape};
pub use message::{Message, Request};
pub(crate) use message::{wire_field, wire_message, wire_struct};
