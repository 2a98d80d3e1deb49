//! Transports over loopback.
