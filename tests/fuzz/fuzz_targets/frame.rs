//! Fuzzes `decoders::TARGETS`' `frame`; what it may not do stands there.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| decoders::run("frame", data));
