package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/pluginpb"
)

type fault struct {
	parameter string
	files     []string
	want      string // what the error starts with
}

const relative = "lang=go,paths=source_relative"

var parameterFaults = map[string]fault{
	"no lang":                     {"paths=source_relative", nil, "option lang is missing: known are go, python"},
	"empty lang":                  {"lang=", nil, "option lang is empty: known are go, python"},
	"unknown lang":                {"lang=cobol", nil, "unknown option lang=cobol: known are go, python"},
	"lang twice":                  {"lang=go,lang=go", nil, "option lang is given twice"},
	"not a pair":                  {"lang=go,fast", nil, `option "fast" is not of the form key=value`},
	"no key":                      {"lang=go,=x", nil, `option "=x" is not of the form key=value`},
	"unknown option":              {"lang=go,speed=1", nil, `unknown option "speed" for lang=go: known are paths, module, services and M<proto file>`},
	"option of python":            {"lang=python,paths=import", nil, `unknown option "paths" for lang=python: it has none`},
	"unknown paths":               {"lang=go,paths=absolute", nil, "option paths=absolute: want paths=import or paths=source_relative"},
	"option twice":                {"lang=go,paths=import,paths=import", nil, "option paths is given twice"},
	"empty module":                {"lang=go,module=", nil, "option module needs a Go module path"},
	"empty mapping":               {"lang=go,Ma.proto=", nil, "option Ma.proto=: want M<proto file>=<Go import path>"},
	"services without a path":     {"lang=go,services=rpc", nil, "option services=rpc: want services=<Go import path>"},
	"services with a bad name":    {"lang=go,services=a.b/c;d-e", nil, "option services=a.b/c;d-e: want services=<Go import path>"},
	"module with source_relative": {relative + ",module=a.b/c", nil, "option module does not go with paths=source_relative"},
}

var inputFaults = map[string]fault{
	"outside of module": {
		"lang=go,module=example.com/other", []string{"several/v1/several.proto"},
		"several/v1/several.proto: Go import path example.com/golden/several/v1 is not inside module=example.com/other",
	},
	"two protos, one Python file": {
		"lang=python", []string{"faults/twice/a-b.proto", "faults/twice/a_b.proto"},
		"faults/twice/a_b.proto: faults/twice/a_b_octo.py is also the Python file of faults/twice/a-b.proto: rename one of the two",
	},
	"editions": {
		relative, []string{"faults/edition.proto"},
		`faults/edition.proto:2:1: edition 2023 is not supported: write syntax = "proto3" instead`,
	},
	"no import path": {
		"lang=go", []string{"plain/v1/plain.proto"},
		"plain/v1/plain.proto: no Go import path: let buf's managed mode set it (go_package_prefix in buf.gen.yaml), " +
			"write option go_package in the file, or pass the option Mplain/v1/plain.proto=<Go import path>",
	},
	"nothing to name the package by": {
		relative, []string{"faults/bare/bare.proto"},
		"faults/bare/bare.proto: neither a Go import path nor a proto package",
	},
	"message without import path": {
		relative, []string{"faults/unplaced.proto"},
		"faults/unplaced.proto:10:3: plain.v1.Word is in plain/v1/words.proto, which has no Go import path: let buf's",
	},
	"message of another directory, both without": {
		relative, []string{"faults/alone/alone.proto"},
		"faults/alone/alone.proto:9:3: plain.v1.Word is in plain/v1/words.proto, which has no Go import path",
	},
	"one directory with and without": {
		relative, []string{"faults/mixed/with.proto", "faults/mixed/without.proto"},
		"faults/mixed/without.proto: no Go import path, but faults/mixed/with.proto of the same directory has one",
	},
	"one import path, two names": {
		relative, []string{"faults/names/a.proto", "faults/names/b.proto"},
		"faults/names/b.proto: Go package name two, but faults/names/a.proto of the same Go package has one",
	},
	"a name for an import path": {
		relative, []string{"faults/short.proto"},
		`faults/short.proto: Go import path "short" has neither a dot nor a slash`,
	},
	"not a package name": {
		relative, []string{"faults/badname.proto"}, `faults/badname.proto: "bad-name" cannot be a Go package name`,
	},
	"negative timeout": {
		relative, []string{"faults/timeout.proto"},
		"faults/timeout.proto:13:3: (octo.options.v1.method).timeout of faults.timeout.S.Negative must be more than 0",
	},
	"timeout of nothing": {
		relative, []string{"faults/zero.proto"},
		"faults/zero.proto:12:3: (octo.options.v1.method).timeout of faults.zero.S.Zero must be more than 0",
	},
	"timeout with two signs": {
		relative, []string{"faults/nonsense.proto"},
		"faults/nonsense.proto:12:3: (octo.options.v1.method).timeout of faults.nonsense.S.Signs is not a duration",
	},
}

func TestErrorsNameThePlaceAndTheWayOut(t *testing.T) {
	t.Parallel()
	for _, faults := range []map[string]fault{parameterFaults, inputFaults} {
		for name, test := range faults {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				response := respond(request(t, test.parameter, test.files...))
				if !strings.HasPrefix(response.GetError(), test.want) {
					t.Errorf("error is\n%s\nwant\n%s", response.GetError(), test.want)
				}
				if len(response.GetFile()) != 0 {
					t.Error("files come with an error")
				}
			})
		}
	}
}

func TestOutputNamesFollowThePathOptions(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ parameter, want string }{
		"import path is the default": {"lang=go", "example.com/golden/several/v1/several_octo.go"},
		"said":                       {"lang=go,paths=import", "example.com/golden/several/v1/several_octo.go"},
		"module is cut":              {"lang=go,module=example.com/golden", "several/v1/several_octo.go"},
		"source_relative":            {"lang=go,paths=source_relative", "several/v1/several_octo.go"},
		"mapped":                     {"lang=go,Mseveral/v1/several.proto=example.com/x;y", "example.com/x/several_octo.go"},
		"blanks":                     {" lang=go , paths=source_relative ,", "several/v1/several_octo.go"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			response := respond(request(t, test.parameter, "several/v1/several.proto"))
			if response.Error != nil || len(response.GetFile()) != 1 {
				t.Fatalf("response is %v", response)
			}
			if got := response.GetFile()[0].GetName(); got != test.want {
				t.Errorf("name is %s, want %s", got, test.want)
			}
		})
	}
}

func TestMappingGivesImportPathAndName(t *testing.T) {
	t.Parallel()
	outputs, err := generate(request(t, "lang=go,paths=source_relative,Mseveral/v1/several.proto=example.com/x;y,"+
		"Mmoney/v1/money.proto=example.com/cash", "several/v1/several.proto", "shop/v1/inventory.proto"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(outputs[0].Content, "\npackage y\n") {
		t.Error("the mapping's package name is not used")
	}
	// As with protoc-gen-go, go_package still names the package whose import path is mapped.
	if !strings.Contains(outputs[1].Content, "\tmoneyv1 \"example.com/cash\"\n") {
		t.Error("the mapping's import path is not used")
	}
}

func TestServicesGoIntoAPackageOfTheirOwn(t *testing.T) {
	t.Parallel()
	outputs, err := generate(request(t, "lang=go,module=example.com,services=example.com/golden/rpc;calls", "several/v1/several.proto"))
	if err != nil {
		t.Fatal(err)
	}
	if outputs[0].Name != "golden/rpc/several_octo.go" {
		t.Errorf("name is %s", outputs[0].Name)
	}
	for _, want := range []string{"\npackage calls\n", " \"example.com/golden/several/v1\"\n"} {
		if !strings.Contains(outputs[0].Content, want) {
			t.Errorf("%q is missing in\n%s", want, outputs[0].Content)
		}
	}
}

func TestFileWithoutServicesGivesNoOutput(t *testing.T) {
	t.Parallel()
	response := respond(request(t, "lang=go", "money/v1/money.proto", "shop/v1/events.proto"))
	if response.Error != nil || len(response.GetFile()) != 0 {
		t.Errorf("response is %v", response)
	}
}

func TestProto3OptionalIsAdvertisedWithErrorsToo(t *testing.T) {
	t.Parallel()
	const want = uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL)
	for _, parameter := range []string{"lang=go", "lang=none"} {
		if got := respond(request(t, parameter)).GetSupportedFeatures(); got != want {
			t.Errorf("%s: features are %d, want %d", parameter, got, want)
		}
	}
}

func TestBrokenRequestsAreAnswered(t *testing.T) {
	t.Parallel()
	missing, err := proto.Marshal(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{"a.proto"}, Parameter: proto.String("lang=go"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for want, encoded := range map[string][]byte{
		"the compiler's request cannot be read":                            {0xff},
		"a.proto: the compiler asks to generate it but sent no descriptor": missing,
	} {
		if got := respond(encoded).GetError(); !strings.HasPrefix(got, want) {
			t.Errorf("error is %q, want %q", got, want)
		}
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args           []string
		stdin          []byte
		code           int
		stdout, stderr string
	}{
		"version":          {[]string{"--version"}, nil, 0, "protoc-gen-octo " + version + "\n", ""},
		"help":             {[]string{"--help"}, nil, 0, usage, ""},
		"unknown argument": {[]string{"--go"}, nil, 2, "", "unknown arguments"},
		"nothing on stdin": {nil, nil, 2, "", "no request on standard input"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			if code := run(test.args, bytes.NewReader(test.stdin), &stdout, &stderr); code != test.code {
				t.Errorf("exit code is %d, want %d", code, test.code)
			}
			if stdout.String() != test.stdout {
				t.Errorf("stdout is %q, want %q", stdout.String(), test.stdout)
			}
			if !strings.Contains(stderr.String(), test.stderr) {
				t.Errorf("stderr is %q, want %q in it", stderr.String(), test.stderr)
			}
		})
	}
	t.Run("request", func(t *testing.T) {
		t.Parallel()
		var stdout, stderr bytes.Buffer
		if code := run(nil, bytes.NewReader(request(t, "lang=go", "several/v1/several.proto")), &stdout, &stderr); code != 0 {
			t.Fatalf("exit code %d: %s", code, stderr.String())
		}
		response := new(pluginpb.CodeGeneratorResponse)
		if err := proto.Unmarshal(stdout.Bytes(), response); err != nil || len(response.GetFile()) != 1 {
			t.Errorf("response is %v (%v)", response, err)
		}
	})
}

// TestNamesDoNotDependOnTheFilesAskedFor generates each file alone and all at once.
func TestNamesDoNotDependOnTheFilesAskedFor(t *testing.T) {
	t.Parallel()
	for language, run := range goldenRuns {
		together := goldenOutputs(t, language)
		for _, file := range run.files {
			alone, err := generate(request(t, run.parameter, file))
			if err != nil {
				t.Fatal(err)
			}
			for _, output := range alone {
				if !slices.Contains(together, output) {
					t.Errorf("%s differs when it is generated alone", output.Name)
				}
			}
		}
	}
}
