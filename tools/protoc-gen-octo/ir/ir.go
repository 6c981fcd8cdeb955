// Package ir is what every back-end of protoc-gen-octo generates from: the services of a request with
// their options and comments, free of any target language.
//
// A back-end is a function of Backend's type in a folder of its own. It reads a Request and its own
// options, and returns files. It may follow the descriptors to anything else a proto file says, such as
// java_package.
package ir

import (
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Backend generates one language.
type Backend func(Request, []Option) ([]Output, error)

// Request is what one run of the compiler asks for.
type Request struct {
	// Version is the generator's own, for the head of each output.
	Version string
	// Files are those to generate, in the compiler's order.
	Files []File
	// All holds Files and everything that they import, sorted by path.
	All []protoreflect.FileDescriptor
}

// Option is one key=value pair of the plugin's parameter.
type Option struct {
	Key, Value string
}

// Output is one generated file. Name is relative to the compiler's output directory.
type Output struct {
	Name, Content string
}

// File is one proto file to generate.
type File struct {
	Descriptor protoreflect.FileDescriptor
	Services   []Service
}

// Service is one service of a file.
type Service struct {
	Descriptor protoreflect.ServiceDescriptor
	// Comment is the text in front of the service, else the text behind its opening brace; lines end in \n.
	Comment    string
	Deprecated bool
	// Target is (octo.options.v1.service).target, or empty.
	Target  string
	Methods []Method
}

// Method is one method of a service.
type Method struct {
	Descriptor protoreflect.MethodDescriptor
	Comment    string
	Deprecated bool
	Kind       Kind
	Input      protoreflect.MessageDescriptor
	Output     protoreflect.MessageDescriptor
	// Timeout is the default time budget of a call; 0 when there is none.
	Timeout time.Duration
	// Idempotent says that running twice does the same as running once.
	Idempotent bool
}

// Kind says which sides of a call are streams.
type Kind int

// The four kinds of call.
const (
	Unary Kind = iota
	ClientStreaming
	ServerStreaming
	BidiStreaming
)

// String returns the name that the SDKs give to the kind.
func (k Kind) String() string {
	switch k {
	case ClientStreaming:
		return "ClientStreaming"
	case ServerStreaming:
		return "ServerStreaming"
	case BidiStreaming:
		return "BidiStreaming"
	default:
		return "Unary"
	}
}

func kindOf(method protoreflect.MethodDescriptor) Kind {
	switch {
	case method.IsStreamingClient() && method.IsStreamingServer():
		return BidiStreaming
	case method.IsStreamingClient():
		return ClientStreaming
	case method.IsStreamingServer():
		return ServerStreaming
	default:
		return Unary
	}
}
