//! The client: the cases, by tonic's client without generated code.

use std::time::Duration;

use prost::Message;
use tokio_stream::StreamExt;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::{FAIL_TEXT, Failure, RpcStatus, TYPE};

type Bytes = Vec<u8>;
type Outcome = Result<(), Failure>;

fn same<T: PartialEq + std::fmt::Debug>(got: T, want: T) -> Outcome {
    if got == want {
        return Ok(());
    }
    let text = |t: T| format!("{t:?}").chars().take(200).collect::<String>();
    Err(format!("got {}, want {}", text(got), text(want)).into())
}

fn fails<T>(code: Code, result: Result<T, Status>) -> Result<Status, Failure> {
    match result {
        Err(status) if status.code() == code => Ok(status),
        Err(status) => Err(format!("it ended by {status:?}, not {code:?}").into()),
        Ok(_) => Err(format!("it did not fail by {code:?}").into()),
    }
}

#[derive(Clone)]
struct Calls(Grpc<Channel>);

impl Calls {
    async fn ready(&self, method: &str) -> Result<(Grpc<Channel>, PathAndQuery, ProstCodec<Bytes, Bytes>), Status> {
        let mut grpc = self.0.clone();
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = format!("/octo.interop.v1.Peer/{method}").parse().expect("a path");
        Ok((grpc, path, ProstCodec::default()))
    }

    async fn unary(&self, method: &str, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let (mut grpc, path, codec) = self.ready(method).await?;
        grpc.unary(request, path, codec).await
    }

    async fn server_stream(&self, method: &str, request: Request<Bytes>) -> Result<Response<Streaming<Bytes>>, Status> {
        let (mut grpc, path, codec) = self.ready(method).await?;
        grpc.server_streaming(request, path, codec).await
    }

    async fn echo(&self, body: Bytes) -> Outcome {
        let got = self.unary("Echo", Request::new(body.clone())).await?.into_inner();
        if got == body { Ok(()) } else { Err(format!("{} bytes came back as {}", body.len(), got.len()).into()) }
    }

    async fn watch(&self) -> Outcome {
        let numbers: Bytes = (0..100).collect();
        let answers = self.server_stream("Watch", Request::new(numbers.clone())).await?.into_inner();
        let got: Vec<Bytes> = answers.collect::<Result<_, _>>().await?;
        same(got, numbers.into_iter().map(|n| vec![n]).collect())
    }

    async fn collect(&self) -> Outcome {
        let (mut grpc, path, codec) = self.ready("Collect").await?;
        let requests = tokio_stream::iter((0..100u8).map(|n| vec![n]));
        let answer = grpc.client_streaming(Request::new(requests), path, codec).await?;
        same(answer.into_inner(), (0..100).collect())
    }

    async fn chat(&self) -> Outcome {
        let (mut grpc, path, codec) = self.ready("Chat").await?;
        let (requests, out) = tokio::sync::mpsc::channel(1);
        let stream = tokio_stream::wrappers::ReceiverStream::new(out);
        // The answer's beginning may come with the first message only.
        requests.send(Bytes::new()).await?;
        let mut answers = grpc.streaming(Request::new(stream), path, codec).await?.into_inner();
        for n in 0..20 {
            if n > 0 {
                requests.send(vec![0; n]).await?;
            }
            same(answers.message().await?, Some(vec![0; n]))?;
        }
        drop(requests);
        same(answers.message().await?, None)
    }

    async fn metadata(&self) -> Outcome {
        let octets = MetadataValue::from_bytes(&[0, 255, 128]);
        let mut request = Request::new(Bytes::new());
        request.metadata_mut().append("x-ascii", "one".parse()?);
        request.metadata_mut().append("x-ascii", "two".parse()?);
        request.metadata_mut().append_bin("x-octets-bin", octets.clone());
        // As a stream, since a unary answer has its trailers among the initial metadata.
        let (headers, mut answers, _) = self.server_stream("Echo", request).await?.into_parts();
        same(answers.message().await?, Some(Bytes::new()))?;
        same(answers.message().await?, None)?;
        let trailers = answers.trailers().await?.unwrap_or_default();
        let check = |got: &MetadataMap| {
            let ascii: Vec<_> = got.get_all("x-ascii").iter().filter_map(|value| value.to_str().ok()).collect();
            // gRPC lets everybody join a key's values by commas, and grpc-js does so.
            same(ascii.join(",").replace(' ', ""), "one,two".to_owned())?;
            let binary: Vec<_> = got.get_all_bin("x-octets-bin").iter().filter_map(|value| value.to_bytes().ok()).collect();
            same(binary, vec![octets.to_bytes()?])
        };
        check(&headers)?;
        check(&trailers)
    }

    async fn error_details(&self) -> Outcome {
        let status = fails(Code::FailedPrecondition, self.unary("Fail", Request::new(b"why".to_vec())).await)?;
        same(status.message(), FAIL_TEXT)?;
        let details = RpcStatus::decode(status.details())?;
        same((details.code, details.message.as_str(), details.details.len()), (Code::FailedPrecondition as i32, FAIL_TEXT, 1))?;
        same(details.details[0].type_url.as_str(), TYPE)?;
        same(Bytes::decode(details.details[0].value.as_slice())?, b"why".to_vec())
    }

    async fn unimplemented(&self) -> Outcome {
        fails(Code::Unimplemented, self.unary("Nothing", Request::new(Bytes::new())).await).map(drop)
    }

    async fn hang(&self, name: &str, timeout: Option<Duration>) -> Result<Streaming<Bytes>, Failure> {
        let mut request = Request::new(name.as_bytes().to_vec());
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        let mut answers = self.server_stream("Hang", request).await?.into_inner();
        same(answers.message().await?, Some(name.as_bytes().to_vec()))?;
        Ok(answers)
    }

    async fn ended(&self, name: &str) -> Outcome {
        self.unary("Ended", Request::new(name.as_bytes().to_vec())).await?;
        Ok(())
    }

    async fn deadline(&self) -> Outcome {
        let name = "tonic-deadline";
        let mut answers = self.hang(name, Some(Duration::from_secs(1))).await?;
        // tonic itself bounds the time to the answer's beginning alone: whoever says the rest is over the wire.
        fails(Code::DeadlineExceeded, answers.message().await)?;
        self.ended(name).await
    }

    async fn cancel(&self) -> Outcome {
        let name = "tonic-cancel";
        drop(self.hang(name, None).await?);
        self.ended(name).await
    }
}

async fn case(name: &str, calls: &Calls, gzip: &Calls) -> Outcome {
    match name {
        "unary" => calls.echo(b"hello".to_vec()).await,
        "empty" => calls.echo(Bytes::new()).await,
        "large" => calls.echo(b"0123456789abcdef".repeat(3 << 16)).await,
        "server_stream" => calls.watch().await,
        "client_stream" => calls.collect().await,
        "bidi_stream" => calls.chat().await,
        "metadata" => calls.metadata().await,
        "error_details" => calls.error_details().await,
        "unimplemented" => calls.unimplemented().await,
        "compression" => gzip.echo(b"again ".repeat(10_000)).await,
        "deadline" => calls.deadline().await,
        "cancel" => calls.cancel().await,
        _ => Err("no such case".into()),
    }
}

const CASES: [&str; 12] = [
    "unary", "empty", "large", "server_stream", "client_stream", "bidi_stream", "metadata", "error_details", "unimplemented",
    "compression", "deadline", "cancel",
];

/// Makes the calls of all cases, and says of each how it went.
pub async fn call(address: &str) -> Result<(), Failure> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let calls = Calls(Grpc::new(channel.clone()));
    let gzip = Grpc::new(channel).send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip);
    for name in CASES {
        let ended = tokio::time::timeout(Duration::from_secs(20), case(name, &calls, &Calls(gzip.clone()))).await;
        match ended.unwrap_or_else(|_| Err("it did not end".into())) {
            Ok(()) => println!("ok {name}"),
            Err(error) => println!("FAILED {name}: {}", error.to_string().replace('\n', " ")),
        }
    }
    Ok(())
}
