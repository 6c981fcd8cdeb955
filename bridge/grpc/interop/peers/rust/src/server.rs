//! The server. What generated code would do, it does by tonic's own parts: a service is asked by path.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use prost::Message;
use prost_types::Any;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::http;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::server::{Grpc, NamedService};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::{FAIL_TEXT, Failure, RpcStatus, TYPE};

type Bytes = Vec<u8>;
type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
type Codec = ProstCodec<Bytes, Bytes>;

#[derive(Clone, Default)]
struct Peer {
    hangs: Arc<Mutex<HashMap<Bytes, watch::Sender<bool>>>>,
}

/// Tells that a Hang has ended, when tonic drops what answers it.
struct End(watch::Sender<bool>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl Peer {
    fn end_of(&self, name: Bytes) -> watch::Sender<bool> {
        let mut hangs = self.hangs.lock().expect("nobody panics with it");
        hangs.entry(name).or_insert_with(|| watch::Sender::new(false)).clone()
    }

    fn hang(&self, name: Bytes) -> Answers {
        let end = End(self.end_of(name.clone()));
        let never = tokio_stream::pending().map(move |nothing: Result<Bytes, Status>| {
            let _ = &end;
            nothing
        });
        Box::pin(tokio_stream::once(Ok(name)).chain(never))
    }

    async fn ended(self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let name = request.into_inner();
        let mut end = self.end_of(name.clone()).subscribe();
        end.wait_for(|ended| *ended).await.map_err(|_| Status::internal("the server ends"))?;
        Ok(Response::new(name))
    }
}

async fn echo(request: Request<Bytes>) -> Result<Response<Answers>, Status> {
    let mut back = MetadataMap::new();
    for entry in request.metadata().iter() {
        match entry {
            KeyAndValueRef::Ascii(key, value) if key == "x-ascii" => {
                back.append(key, value.clone());
            }
            KeyAndValueRef::Binary(key, value) if key == "x-octets-bin" => {
                back.append_bin(key, value.clone());
            }
            _ => {}
        }
    }
    // tonic has no way to add trailers to an answer that succeeds but for a status that is OK.
    let trailers = Status::with_metadata(Code::Ok, "", back.clone());
    let answers = tokio_stream::iter([Ok(request.into_inner()), Err(trailers)]);
    let mut response = Response::new(Box::pin(answers) as Answers);
    *response.metadata_mut() = back;
    Ok(response)
}

async fn watch_bytes(request: Request<Bytes>) -> Result<Response<Answers>, Status> {
    let each = request.into_inner().into_iter().map(|byte| Ok(vec![byte]));
    Ok(Response::new(Box::pin(tokio_stream::iter(each))))
}

async fn collect(request: Request<Streaming<Bytes>>) -> Result<Response<Bytes>, Status> {
    let mut all = Bytes::new();
    let mut requests = request.into_inner();
    while let Some(mut body) = requests.message().await? {
        all.append(&mut body);
    }
    Ok(Response::new(all))
}

async fn chat(request: Request<Streaming<Bytes>>) -> Result<Response<Answers>, Status> {
    let mut requests = request.into_inner();
    let (answers, out) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(body) = requests.next().await {
            if answers.send(body).await.is_err() {
                return;
            }
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(out))))
}

async fn fail(request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
    let detail = Any { type_url: TYPE.into(), value: request.into_inner().encode_to_vec() };
    let details = RpcStatus { code: Code::FailedPrecondition as i32, message: FAIL_TEXT.into(), details: vec![detail] };
    Err(Status::with_details(Code::FailedPrecondition, FAIL_TEXT, details.encode_to_vec().into()))
}

impl NamedService for Peer {
    const NAME: &'static str = "octo.interop.v1.Peer";
}

impl tower::Service<http::Request<Body>> for Peer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let peer = self.clone();
        let mut grpc = Grpc::new(Codec::default())
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip);
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            Ok(match method.as_str() {
                "Echo" => grpc.server_streaming(service_fn(echo), request).await,
                "Watch" => grpc.server_streaming(service_fn(watch_bytes), request).await,
                "Collect" => grpc.client_streaming(service_fn(collect), request).await,
                "Chat" => grpc.streaming(service_fn(chat), request).await,
                "Fail" => grpc.unary(service_fn(fail), request).await,
                "Hang" => {
                    let hang = service_fn(move |request: Request<Bytes>| {
                        let answers = peer.hang(request.into_inner());
                        async move { Ok::<_, Status>(Response::new(answers)) }
                    });
                    grpc.server_streaming(hang, request).await
                }
                "Ended" => grpc.unary(service_fn(move |request| peer.clone().ended(request)), request).await,
                _ => Status::unimplemented("Peer has no such method").into_http(),
            })
        })
    }
}

/// Serves at a port of the system's choice until whoever started the program is gone.
pub async fn serve() -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening {}", listener.local_addr()?);
    let serving = tonic::transport::Server::builder()
        .add_service(Peer::default())
        .serve_with_incoming(TcpListenerStream::new(listener));
    let mut rest = Bytes::new();
    let mut stdin = tokio::io::stdin();
    tokio::select! {
        ended = serving => ended?,
        read = stdin.read_to_end(&mut rest) => { read?; }
    }
    Ok(())
}
