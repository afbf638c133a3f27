//! Compiles the API's definition; `protox` stands in for `protoc`, so that none is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let proto = "proto/access/v1/access.proto";
    println!("cargo:rerun-if-changed={proto}");
    let files = protox::compile([proto], ["proto"])?;
    // Events are many, and pass as they are.
    tonic_prost_build::configure().bytes(".access.v1.EmitRequest").compile_fds(files)?;
    Ok(())
}
