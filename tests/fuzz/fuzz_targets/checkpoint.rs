//! Fuzzes `decoders::TARGETS`' `checkpoint`; what it may not do stands there.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| decoders::run("checkpoint", data));
