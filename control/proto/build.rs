//! Compiles `weir/v1/control.proto`; needs `protoc` (Debian: protobuf-compiler).

use std::env;
use std::fs;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("weir.v1.bin");
    tonic_prost_build::configure()
        .file_descriptor_set_path(&descriptors)
        // Maps in a fixed order: the same message is the same bytes.
        .btree_map(".")
        // Hold secrets; `src/debug.rs` has one for each that does not show it.
        .skip_debug([".weir.v1.PoolSettings", ".weir.v1.QuicConfiguration"])
        .compile_protos(&["weir/v1/control.proto"], &["."])?;
    // Protobuf's JSON mapping as serde: names as in the .proto, and zeroes shown.
    pbjson_build::Builder::new()
        .register_descriptors(&fs::read(&descriptors)?)?
        .btree_map(["."])
        .preserve_proto_field_names()
        .emit_fields()
        .build(&[".weir.v1"])?;
    println!("cargo:rerun-if-changed=weir/v1/control.proto");
    Ok(())
}
