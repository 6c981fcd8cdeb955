package peer;

import com.google.protobuf.Any;
import com.google.protobuf.BytesValue;
import com.google.rpc.Status;
import io.grpc.Contexts;
import io.grpc.Context;
import io.grpc.ForwardingServerCall.SimpleForwardingServerCall;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.ServerInterceptors;
import io.grpc.ServerServiceDefinition;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.ServerCalls;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayOutputStream;
import java.net.InetSocketAddress;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;

/** The server. */
final class PeerServer {
  static final Metadata.Key<String> ASCII = Metadata.Key.of("x-ascii", Metadata.ASCII_STRING_MARSHALLER);
  static final Metadata.Key<byte[]> OCTETS = Metadata.Key.of("x-octets-bin", Metadata.BINARY_BYTE_MARSHALLER);

  private final ConcurrentHashMap<BytesValue, CompletableFuture<Void>> ended = new ConcurrentHashMap<>();

  private CompletableFuture<Void> endOf(BytesValue name) {
    return ended.computeIfAbsent(name, unused -> new CompletableFuture<>());
  }

  private static void answer(BytesValue body, StreamObserver<BytesValue> out) {
    out.onNext(body);
    out.onCompleted();
  }

  private static void watch(BytesValue request, StreamObserver<BytesValue> out) {
    for (byte one : request.getValue()) {
      out.onNext(Peer.bytes(new byte[] {one}));
    }
    out.onCompleted();
  }

  private static StreamObserver<BytesValue> collect(StreamObserver<BytesValue> out) {
    ByteArrayOutputStream all = new ByteArrayOutputStream();
    return new Requests(out) {
      @Override
      public void onNext(BytesValue request) {
        all.writeBytes(request.getValue().toByteArray());
      }

      @Override
      public void onCompleted() {
        answer(Peer.bytes(all.toByteArray()), out);
      }
    };
  }

  private static StreamObserver<BytesValue> chat(StreamObserver<BytesValue> out) {
    return new Requests(out) {
      @Override
      public void onNext(BytesValue request) {
        out.onNext(request);
      }

      @Override
      public void onCompleted() {
        out.onCompleted();
      }
    };
  }

  private static void fail(BytesValue request, StreamObserver<BytesValue> out) {
    Status status = Status.newBuilder()
        .setCode(io.grpc.Status.Code.FAILED_PRECONDITION.value())
        .setMessage(Peer.FAIL_TEXT)
        .addDetails(Any.pack(request))
        .build();
    out.onError(StatusProto.toStatusRuntimeException(status));
  }

  private void hang(BytesValue request, StreamObserver<BytesValue> out) {
    ((ServerCallStreamObserver<BytesValue>) out).setOnCancelHandler(() -> endOf(request).complete(null));
    out.onNext(request);
  }

  private void ended(BytesValue request, StreamObserver<BytesValue> out) {
    endOf(request).thenRun(() -> answer(request, out));
  }

  /** A client that is gone needs no answer. */
  private abstract static class Requests implements StreamObserver<BytesValue> {
    private final StreamObserver<BytesValue> out;

    Requests(StreamObserver<BytesValue> out) {
      this.out = out;
    }

    @Override
    public void onError(Throwable gone) {
      out.onError(gone);
    }
  }

  /** Compresses answers, and gives metadata back. */
  private static final class Echoing implements ServerInterceptor {
    @Override
    public <Q, A> ServerCall.Listener<Q> interceptCall(ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
      Metadata back = new Metadata();
      copy(ASCII, headers, back);
      copy(OCTETS, headers, back);
      call.setCompression("gzip");
      return Contexts.interceptCall(Context.current(), new SimpleForwardingServerCall<>(call) {
        @Override
        public void sendHeaders(Metadata sent) {
          sent.merge(back);
          super.sendHeaders(sent);
        }

        @Override
        public void close(io.grpc.Status status, Metadata trailers) {
          trailers.merge(back);
          super.close(status, trailers);
        }
      }, headers, next);
    }

    private static <T> void copy(Metadata.Key<T> key, Metadata from, Metadata to) {
      Iterable<T> all = from.getAll(key);
      if (all != null) {
        all.forEach(value -> to.put(key, value));
      }
    }
  }

  /** Serves at a port of the system's choice until whoever started the program is gone. */
  static void serve() throws Exception {
    PeerServer peer = new PeerServer();
    ServerServiceDefinition service = ServerServiceDefinition.builder(Peer.SERVICE)
        .addMethod(Peer.ECHO, ServerCalls.asyncUnaryCall(PeerServer::answer))
        .addMethod(Peer.WATCH, ServerCalls.asyncServerStreamingCall(PeerServer::watch))
        .addMethod(Peer.COLLECT, ServerCalls.asyncClientStreamingCall(PeerServer::collect))
        .addMethod(Peer.CHAT, ServerCalls.asyncBidiStreamingCall(PeerServer::chat))
        .addMethod(Peer.FAIL, ServerCalls.asyncUnaryCall(PeerServer::fail))
        .addMethod(Peer.HANG, ServerCalls.asyncServerStreamingCall(peer::hang))
        .addMethod(Peer.ENDED, ServerCalls.asyncUnaryCall(peer::ended))
        .build();
    Server server = NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", 0))
        .addService(ServerInterceptors.intercept(service, new Echoing()))
        .build()
        .start();
    System.out.println("listening 127.0.0.1:" + server.getPort());
    System.in.readAllBytes();
    server.shutdownNow().awaitTermination();
  }

  private PeerServer() {}
}
