//! Disks for tests and for the simulator.
