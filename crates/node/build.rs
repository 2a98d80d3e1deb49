//! Generates the peer protocol from `proto/peer.proto`, without a `protoc` on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/peer.proto");
    let descriptors = protox::compile(["proto/peer.proto"], ["proto"])?;
    tonic_prost_build::configure().bytes(".glasslog.peer.v1").compile_fds(descriptors)?;
    Ok(())
}
