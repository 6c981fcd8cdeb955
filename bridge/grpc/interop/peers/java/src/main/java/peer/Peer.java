package peer;

import com.google.protobuf.BytesValue;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.protobuf.ProtoUtils;

/** What the client and the server have in common: the methods of ../peer.proto, as generated code would describe them. */
public final class Peer {
  static final String SERVICE = "octo.interop.v1.Peer";
  static final String FAIL_TEXT = "not today: ☕ 100% näin";

  static final MethodDescriptor<BytesValue, BytesValue> ECHO = method("Echo", MethodType.UNARY);
  static final MethodDescriptor<BytesValue, BytesValue> WATCH = method("Watch", MethodType.SERVER_STREAMING);
  static final MethodDescriptor<BytesValue, BytesValue> COLLECT = method("Collect", MethodType.CLIENT_STREAMING);
  static final MethodDescriptor<BytesValue, BytesValue> CHAT = method("Chat", MethodType.BIDI_STREAMING);
  static final MethodDescriptor<BytesValue, BytesValue> FAIL = method("Fail", MethodType.UNARY);
  static final MethodDescriptor<BytesValue, BytesValue> HANG = method("Hang", MethodType.SERVER_STREAMING);
  static final MethodDescriptor<BytesValue, BytesValue> ENDED = method("Ended", MethodType.UNARY);
  static final MethodDescriptor<BytesValue, BytesValue> NOTHING = method("Nothing", MethodType.UNARY);

  private Peer() {}

  private static MethodDescriptor<BytesValue, BytesValue> method(String name, MethodType type) {
    return MethodDescriptor.<BytesValue, BytesValue>newBuilder()
        .setType(type)
        .setFullMethodName(MethodDescriptor.generateFullMethodName(SERVICE, name))
        .setRequestMarshaller(ProtoUtils.marshaller(BytesValue.getDefaultInstance()))
        .setResponseMarshaller(ProtoUtils.marshaller(BytesValue.getDefaultInstance()))
        .build();
  }

  static BytesValue bytes(byte[] value) {
    return BytesValue.of(com.google.protobuf.ByteString.copyFrom(value));
  }

  /** Is what the arguments say. */
  public static void main(String[] args) throws Exception {
    String what = args.length > 0 ? args[0] : "";
    if (what.equals("version")) {
      System.out.println(io.grpc.ManagedChannel.class.getPackage().getImplementationVersion() == null
          ? io.grpc.internal.GrpcUtil.getGrpcBuildVersion().getImplementationVersion()
          : io.grpc.ManagedChannel.class.getPackage().getImplementationVersion());
    } else if (what.equals("server")) {
      PeerServer.serve();
    } else if (what.equals("client") && args.length == 2) {
      PeerClient.call(args[1]);
    } else {
      System.err.println("what to be: version, server or client");
      System.exit(2);
    }
  }
}
