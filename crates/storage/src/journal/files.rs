//! The journal's files and what pins them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupPins {}
#[derive(Clone, Debug)]
pub struct JournalFile {}
