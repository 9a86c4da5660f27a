//! Everything of the proxy's that reads a stranger's bytes by itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paas::proxy::fuzzed;

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, bytes)) = bytes.split_first() else { return };
    match which % 4 {
        0 => {
            if let Some(host) = fuzzed::host(bytes) {
                assert!(host.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()));
            }
        }
        1 => {
            fuzzed::preamble(bytes);
        }
        2 => {
            fuzzed::forwarded(bytes);
        }
        _ => {
            fuzzed::framing(bytes);
        }
    }
});
