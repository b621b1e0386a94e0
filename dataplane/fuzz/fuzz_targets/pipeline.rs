//! From bytes to verdicts over the real pipeline. The body is shared with the plain tests
//! (`dataplane/tests/common/pipeline.rs`); its head describes the input and the promises.

#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use common::pipeline::Pipeline;
use libfuzzer_sys::fuzz_target;

thread_local! {
    /// Tables are made once; each input has a worker of its own.
    static PIPELINE: Pipeline = Pipeline::new();
}

fuzz_target!(|input: &[u8]| {
    PIPELINE.with(|pipeline| {
        pipeline.run(input);
    });
});
