package peer;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.BytesValue;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptors;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;

/** The client: the cases. */
final class PeerClient {
  /** A case. */
  private interface Case {
    void run() throws Exception;
  }

  private final Channel channel;
  private final CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(60, TimeUnit.SECONDS);

  private PeerClient(Channel channel) {
    this.channel = channel;
  }

  static void call(String address) throws InterruptedException {
    String[] parts = address.split(":");
    ManagedChannel channel = NettyChannelBuilder.forAddress(parts[0], Integer.parseInt(parts[1])).usePlaintext().build();
    PeerClient client = new PeerClient(channel);
    client.cases().forEach((name, one) -> {
      try {
        one.run();
        System.out.println("ok " + name);
      } catch (Exception | AssertionError error) {
        System.out.println("FAILED " + name + ": " + error.toString().replace('\n', ' '));
      }
    });
    channel.shutdownNow().awaitTermination(10, TimeUnit.SECONDS);
  }

  private Map<String, Case> cases() {
    Map<String, Case> all = new LinkedHashMap<>();
    all.put("unary", () -> echo("hello".getBytes(), options));
    all.put("empty", () -> echo(new byte[0], options));
    all.put("large", () -> echo("0123456789abcdef".repeat(3 << 16).getBytes(), options));
    all.put("server_stream", this::serverStream);
    all.put("client_stream", this::clientStream);
    all.put("bidi_stream", this::bidiStream);
    all.put("metadata", this::metadata);
    all.put("error_details", this::errorDetails);
    all.put("unimplemented", () -> fails(Status.Code.UNIMPLEMENTED, () -> unary(Peer.NOTHING, BytesValue.getDefaultInstance())));
    all.put("compression", () -> echo("again ".repeat(10_000).getBytes(), options.withCompression("gzip")));
    all.put("deadline", this::deadline);
    all.put("cancel", this::cancel);
    return all;
  }

  private static void same(Object got, Object want) {
    if (!Objects.equals(got, want)) {
      throw new AssertionError("got " + got + ", want " + want);
    }
  }

  private static StatusRuntimeException fails(Status.Code code, Case call) throws Exception {
    try {
      call.run();
    } catch (StatusRuntimeException error) {
      same(error.getStatus().getCode(), code);
      return error;
    }
    throw new AssertionError("it did not fail by " + code);
  }

  private BytesValue unary(MethodDescriptor<BytesValue, BytesValue> method, BytesValue request) {
    return ClientCalls.blockingUnaryCall(channel, method, options, request);
  }

  private void echo(byte[] body, CallOptions with) {
    byte[] got = ClientCalls.blockingUnaryCall(channel, Peer.ECHO, with, Peer.bytes(body)).getValue().toByteArray();
    if (!Arrays.equals(got, body)) {
      throw new AssertionError(body.length + " bytes came back as " + got.length);
    }
  }

  private static byte[] numbers() {
    byte[] all = new byte[100];
    for (int i = 0; i < all.length; i++) {
      all[i] = (byte) i;
    }
    return all;
  }

  private void serverStream() {
    Iterator<BytesValue> answers = ClientCalls.blockingServerStreamingCall(channel, Peer.WATCH, options, Peer.bytes(numbers()));
    for (byte number : numbers()) {
      same(answers.next(), Peer.bytes(new byte[] {number}));
    }
    same(answers.hasNext(), false);
  }

  /** Collects what a call brings: messages, then a status. */
  private static final class Answers implements StreamObserver<BytesValue> {
    private final BlockingQueue<Object> queue = new LinkedBlockingQueue<>();

    @Override
    public void onNext(BytesValue message) {
      queue.add(message);
    }

    @Override
    public void onError(Throwable error) {
      queue.add(Status.fromThrowable(error).getCode());
    }

    @Override
    public void onCompleted() {
      queue.add(Status.Code.OK);
    }

    Object next() throws InterruptedException {
      return queue.poll(60, TimeUnit.SECONDS);
    }
  }

  private ClientCall<BytesValue, BytesValue> open(MethodDescriptor<BytesValue, BytesValue> method) {
    return channel.newCall(method, options);
  }

  private void clientStream() throws InterruptedException {
    Answers answers = new Answers();
    StreamObserver<BytesValue> requests = ClientCalls.asyncClientStreamingCall(open(Peer.COLLECT), answers);
    for (byte number : numbers()) {
      requests.onNext(Peer.bytes(new byte[] {number}));
    }
    requests.onCompleted();
    same(answers.next(), Peer.bytes(numbers()));
    same(answers.next(), Status.Code.OK);
  }

  private void bidiStream() throws InterruptedException {
    Answers answers = new Answers();
    StreamObserver<BytesValue> requests = ClientCalls.asyncBidiStreamingCall(open(Peer.CHAT), answers);
    for (int n = 0; n < 20; n++) {
      requests.onNext(Peer.bytes(new byte[n]));
      same(answers.next(), Peer.bytes(new byte[n]));
    }
    requests.onCompleted();
    same(answers.next(), Status.Code.OK);
  }

  private void metadata() {
    Metadata sent = new Metadata();
    sent.put(PeerServer.ASCII, "one");
    sent.put(PeerServer.ASCII, "two");
    sent.put(PeerServer.OCTETS, new byte[] {0, -1, -128});
    AtomicReference<Metadata> headers = new AtomicReference<>();
    AtomicReference<Metadata> trailers = new AtomicReference<>();
    Channel observed = ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(sent),
        MetadataUtils.newCaptureMetadataInterceptor(headers, trailers));
    ClientCalls.blockingUnaryCall(observed, Peer.ECHO, options, BytesValue.getDefaultInstance());
    for (Metadata got : List.of(headers.get(), trailers.get())) {
      // gRPC lets everybody join a key's values by commas, and grpc-js does so.
      same(String.join(",", all(got, PeerServer.ASCII)).replace(" ", ""), "one,two");
      same(all(got, PeerServer.OCTETS).stream().map(Arrays::toString).toList(), List.of("[0, -1, -128]"));
    }
  }

  private static <T> List<T> all(Metadata metadata, Metadata.Key<T> key) {
    List<T> all = new ArrayList<>();
    Iterable<T> values = metadata.getAll(key);
    if (values != null) {
      values.forEach(all::add);
    }
    return all;
  }

  private void errorDetails() throws Exception {
    BytesValue why = BytesValue.of(ByteString.copyFromUtf8("why"));
    StatusRuntimeException error = fails(Status.Code.FAILED_PRECONDITION, () -> unary(Peer.FAIL, why));
    same(error.getStatus().getDescription(), Peer.FAIL_TEXT);
    com.google.rpc.Status status = StatusProto.fromThrowable(error);
    same(status.getMessage(), Peer.FAIL_TEXT);
    same(status.getDetailsList(), List.of(Any.pack(why)));
  }

  private Iterator<BytesValue> hang(BytesValue name, CallOptions with) {
    Iterator<BytesValue> answers = ClientCalls.blockingServerStreamingCall(channel, Peer.HANG, with, name);
    same(answers.next(), name);
    return answers;
  }

  private void deadline() throws Exception {
    BytesValue name = BytesValue.of(ByteString.copyFromUtf8("java-deadline"));
    Iterator<BytesValue> answers = hang(name, CallOptions.DEFAULT.withDeadlineAfter(1, TimeUnit.SECONDS));
    fails(Status.Code.DEADLINE_EXCEEDED, answers::hasNext);
    same(unary(Peer.ENDED, name), name);
  }

  private void cancel() throws Exception {
    BytesValue name = BytesValue.of(ByteString.copyFromUtf8("java-cancel"));
    Context.CancellableContext context = Context.current().withCancellation();
    Iterator<BytesValue> answers = context.call(() -> hang(name, options));
    context.cancel(null);
    fails(Status.Code.CANCELLED, answers::hasNext);
    same(unary(Peer.ENDED, name), name);
  }
}
