package main

import (
	"strings"

	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

func traceparentFile() *vector.File {
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	f := &vector.File{
		Title: "W3C traceparent",
		Notes: []string{
			"An invalid traceparent counts as absent: the call begins a trace of its own. Hops forward the bytes as they are.",
			"A valid one gives trace id, parent id and flags; the trace id's 16 raw bytes are the sticky key of S-RATIO-2.",
		},
		Flags: map[string]string{"FutureVersion": "a version above 00"},
	}
	valid := func(id, comment, s, flags string, tags ...string) {
		f.Vectors = append(f.Vectors, vector.Vector{ID: "traceparent/" + id, Comment: comment, Rules: []string{"W-HEAD-11"}, Flags: tags,
			Input:  vector.Map{"traceparent": s},
			Result: vector.Map{"valid": true, "trace_id": trace, "parent_id": parent, "flags": flags}})
	}
	invalid := func(id, comment, s string, tags ...string) {
		f.Vectors = append(f.Vectors, vector.Vector{ID: "traceparent/" + id, Comment: comment, Rules: []string{"W-HEAD-11"}, Flags: tags,
			Input: vector.Map{"traceparent": s}, Result: vector.Map{"valid": false}})
	}
	base := "00-" + trace + "-" + parent
	valid("sampled", "sampled", base+"-01", "01")
	valid("not-sampled", "not sampled", base+"-00", "00")
	valid("other-flags", "flags that are not defined are kept", base+"-ff", "ff")
	valid("future", "a later version of the same length", "cc"+base[2:]+"-01", "01", "FutureVersion")
	valid("future-longer", "a later version with more behind a dash", "cc"+base[2:]+"-01-what-comes", "01", "FutureVersion")
	valid("future-dash", "a later version with an empty rest", "cc"+base[2:]+"-01-", "01", "FutureVersion")
	invalid("empty", "nothing", "")
	invalid("version-ff", "version ff is forbidden", "ff"+base[2:]+"-01")
	invalid("version-upper", "hex is lower case", "0A"+base[2:]+"-01")
	invalid("version-no-hex", "the version is hex", "0x"+base[2:]+"-01")
	invalid("trace-zero", "a trace id of zeros", "00-"+strings.Repeat("0", 32)+"-"+parent+"-01")
	invalid("parent-zero", "a parent id of zeros", "00-"+trace+"-"+strings.Repeat("0", 16)+"-01")
	invalid("trace-upper", "hex is lower case", "00-"+strings.ToUpper(trace)+"-"+parent+"-01")
	invalid("parent-upper", "hex is lower case", "00-"+trace+"-"+strings.ToUpper(parent)+"-01")
	invalid("flags-upper", "hex is lower case", base+"-0A")
	invalid("trace-no-hex", "g is no hex", "00-g"+trace[1:]+"-"+parent+"-01")
	invalid("trace-short", "a trace id of 31 digits", "00-"+trace[1:]+"-"+parent+"-01")
	invalid("trace-long", "a trace id of 33 digits", "00-0"+trace+"-"+parent+"-01")
	invalid("parent-short", "a parent id of 15 digits", "00-"+trace+"-"+parent[1:]+"-01")
	invalid("no-flags", "no flags", base)
	invalid("flags-short", "flags of one digit", base+"-0")
	invalid("longer", "version 00 has nothing behind its flags", base+"-01-x")
	invalid("trailing-dash", "version 00 has nothing behind its flags", base+"-01-")
	invalid("future-no-dash", "a later version needs a dash before what is new", "cc"+base[2:]+"-01x", "FutureVersion")
	invalid("underscores", "dashes separate", strings.ReplaceAll(base+"-01", "-", "_"))
	invalid("space-before", "no space", " "+base+"-01")
	invalid("space-behind", "no space", base+"-01 ")
	invalid("newline", "no newline", base+"-01\n")
	invalid("not-ascii", "full-width digits are no hex", "００"+base[2:]+"-01")
	return f
}
