//! Groups as clients use them, and a random life of one with an oracle.

mod life;
mod protocol;
mod removal;
mod world;
