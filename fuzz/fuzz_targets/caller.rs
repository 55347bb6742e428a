#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sitegate_fuzzing::caller::run(input));
