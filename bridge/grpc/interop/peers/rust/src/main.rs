//! tonic as client and as server of ../peer.proto. prost takes bytes for a BytesValue, so that no generator is needed.

mod client;
mod server;

use prost_types::Any;

pub const FAIL_TEXT: &str = "not today: ☕ 100% näin";
pub const TYPE: &str = "type.googleapis.com/google.protobuf.BytesValue";
/// The version of Cargo.toml; tonic tells none itself.
const VERSION: &str = "0.14.9";

/// A google.rpc.Status.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["version"] => println!("{VERSION}"),
        ["server"] => server::serve().await?,
        ["client", address] => client::call(address).await?,
        _ => return Err("what to be: version, server or client".into()),
    }
    Ok(())
}
