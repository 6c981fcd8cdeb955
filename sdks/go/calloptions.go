package octomesh

import (
	"time"
)

// CallOption changes one call. Generated clients take any number of them behind a method's arguments.
type CallOption func(*callOptions)

// callOptions is what the options of one call add up to.
type callOptions struct {
	timeout      time.Duration
	hasTimeout   bool
	metadata     Metadata
	baggage      Metadata
	hashKey      string
	waitForReady bool
	idempotent   bool
	encoding     string
	maxReceive   int
	header       *Metadata
	trailer      *Metadata
	timings      *Timings
	began        time.Time // where timings is set
	path         *Path
	intercepted  bool
	inherited    string // the traceparent from before the interceptors, where there are some
	err          *Error
}

func (o *callOptions) fail(err *Error) {
	if o.err == nil {
		o.err = err
	}
}

// Timeout bounds the call by d from now. It replaces the method's default; the context's deadline holds
// beside it, the earlier one counts. A d of 0 or less ends the call as DEADLINE_EXCEEDED before anything is
// sent. Default: the method's, else none.
func Timeout(d time.Duration) CallOption {
	return func(o *callOptions) { o.timeout, o.hasTimeout = d, true }
}

// Header adds one metadata entry to the request. A key or value that [Entry] does not allow ends the call
// as INVALID_ARGUMENT before anything is sent.
func Header(key, value string) CallOption {
	return func(o *callOptions) {
		if err := checkEntry(key, value); err != nil {
			o.fail(err)
			return
		}
		o.metadata = append(o.metadata, Entry{key, value})
	}
}

// Headers adds metadata entries to the request, each as [Header] does.
func Headers(m Metadata) CallOption {
	return func(o *callOptions) {
		for _, e := range m {
			Header(e.Key, e.Value)(o)
		}
	}
}

// WithBaggage adds a baggage entry, which goes down the whole chain of calls, in place of what the context
// has under the key. The same rules as for [Header] hold.
func WithBaggage(key, value string) CallOption {
	return func(o *callOptions) {
		if err := checkEntry(key, value); err != nil {
			o.fail(err)
			return
		}
		o.baggage = append(o.baggage, Entry{key, value})
	}
}

// HashKey names what the call is about, such as a user's id: calls with equal keys stay on one path, and
// go to the same instance where the target's balancer is a ring.
func HashKey(key string) CallOption { return func(o *callOptions) { o.hashKey = key } }

// WaitForReady makes the call wait for a connection until its deadline instead of failing as soon as a
// dial has failed.
func WaitForReady() CallOption { return func(o *callOptions) { o.waitForReady = true } }

// Idempotent says that running this call twice does the same as running it once, so that the SDK may send
// it again, within the retry budget, when its connection is lost. Default: as the method's options say.
func Idempotent() CallOption { return func(o *callOptions) { o.idempotent = true } }

// Compress encodes the call's request messages. encoding is "gzip" or "identity"; another ends the call
// as INVALID_ARGUMENT. Default: "identity".
func Compress(encoding string) CallOption {
	return func(o *callOptions) {
		switch encoding {
		case encodingGzip:
			o.encoding = encoding
		case encodingIdentity, "":
			o.encoding = ""
		default:
			o.fail(badCall("encoding %q: this SDK has gzip and identity", encoding))
		}
	}
}

// MaxReceive bounds the uncompressed size of one response message, in bytes. A larger one ends the call as
// RESOURCE_EXHAUSTED. Default: the channel's [Limits].
func MaxReceive(bytes int) CallOption { return func(o *callOptions) { o.maxReceive = bytes } }

// CaptureHeader stores the response's initial metadata of a unary call in m, once the call has ended.
func CaptureHeader(m *Metadata) CallOption { return func(o *callOptions) { o.header = m } }

// CaptureTrailer stores the trailers of a unary call in m, once the call has ended, however it did.
func CaptureTrailer(m *Metadata) CallOption { return func(o *callOptions) { o.trailer = m } }

// CapturePath stores in p which way the call went, once it has ended: of a stream, when its end was received or it was closed. A call that
// went several ways has the last.
func CapturePath(p *Path) CallOption { return func(o *callOptions) { o.path = p } }
