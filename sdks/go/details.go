package octomesh

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// A google.rpc.Status {int32 code = 1; string message = 2; repeated Any details = 3}, by hand: the package
// that has the type would be one more module in every user's build.

func appendDetails(b []byte, code Code, message string, details []*anypb.Any) []byte {
	if code != 0 {
		b = protowire.AppendTag(b, 1, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(int64(code)))
	}
	if message != "" {
		b = protowire.AppendTag(b, 2, protowire.BytesType)
		b = protowire.AppendString(b, message)
	}
	for _, d := range details {
		raw, err := proto.Marshal(d)
		if err != nil {
			continue // an Any holds bytes: only invalid UTF-8 in its type URL gets here
		}
		b = protowire.AppendTag(b, 3, protowire.BytesType)
		b = protowire.AppendBytes(b, raw)
	}
	return b
}

func parseDetails(b []byte) []*anypb.Any {
	var details []*anypb.Any
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil
		}
		b = b[n:]
		if num != 3 || kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, kind, b); n < 0 {
				return nil
			}
			b = b[n:]
			continue
		}
		raw, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return nil
		}
		b = b[n:]
		d := new(anypb.Any)
		if proto.Unmarshal(raw, d) != nil {
			return nil
		}
		details = append(details, d)
	}
	return details
}
