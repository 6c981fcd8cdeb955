package main

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/octomesh/octomesh/tools/protoc-gen-octo/golang"
	"github.com/octomesh/octomesh/tools/protoc-gen-octo/ir"
	"github.com/octomesh/octomesh/tools/protoc-gen-octo/python"
)

// languages are the values of lang= that backendFor knows.
const languages = "go, python"

func backendFor(language string) (ir.Backend, bool) {
	switch language {
	case "go":
		return golang.Generate, true
	case "python":
		return python.Generate, true
	default:
		return nil, false
	}
}

// respond answers one encoded CodeGeneratorRequest.
func respond(encoded []byte) *pluginpb.CodeGeneratorResponse {
	response := &pluginpb.CodeGeneratorResponse{
		// Sent with errors too: without it a compiler may replace our text by one about missing features.
		SupportedFeatures: proto.Uint64(uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL)),
	}
	outputs, err := generate(encoded)
	if err != nil {
		// The compiler says which plugin it was; an error that has a place in a file starts with it.
		response.Error = proto.String(err.Error())
		return response
	}
	for _, output := range outputs {
		response.File = append(response.File, &pluginpb.CodeGeneratorResponse_File{
			Name:    proto.String(output.Name),
			Content: proto.String(output.Content),
		})
	}
	return response
}

func generate(encoded []byte) ([]ir.Output, error) {
	decoded, err := ir.Decode(encoded)
	if err != nil {
		return nil, fmt.Errorf("the compiler's request cannot be read: %w", err)
	}
	language, options, err := splitParameter(decoded.GetParameter())
	if err != nil {
		return nil, err
	}
	backend, ok := backendFor(language)
	if !ok {
		return nil, fmt.Errorf("unknown option lang=%s: known are %s", language, languages)
	}
	request, err := ir.Build(decoded, version)
	if err != nil {
		return nil, err
	}
	return backend(request, options)
}

// splitParameter reads key=value pairs with commas between them and takes out lang.
func splitParameter(parameter string) (language string, rest []ir.Option, err error) {
	for pair := range strings.SplitSeq(parameter, ",") {
		pair = strings.TrimSpace(pair)
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return "", nil, fmt.Errorf("option %q is not of the form key=value", pair)
		}
		if key != "lang" {
			rest = append(rest, ir.Option{Key: key, Value: value})
			continue
		}
		if language != "" {
			return "", nil, errors.New("option lang is given twice: run the plugin once a language")
		}
		if value == "" {
			return "", nil, errors.New("option lang is empty: known are " + languages)
		}
		language = value
	}
	if language == "" {
		return "", nil, errors.New("option lang is missing: known are " + languages)
	}
	return language, rest, nil
}
