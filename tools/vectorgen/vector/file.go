// Package vector is the form that all vector files share, in the manner of Wycheproof: each vector has an
// id, a comment, the rules that it holds to, flags, an input and a result.
package vector

import (
	"bytes"
	"encoding/json"
)

// File is one file of vectors.
type File struct {
	Title  string `json:"title"`
	Schema string `json:"schema"`
	// Notes tell a harness how to read the vectors.
	Notes []string `json:"notes"`
	// Flags explains every flag that a vector of this file has.
	Flags   map[string]string `json:"flags"`
	Vectors []Vector          `json:"vectors"`
}

// Vector is one case. Kind tells the shapes of input and result apart in files that hold several.
type Vector struct {
	ID      string   `json:"id"`
	Comment string   `json:"comment"`
	Rules   []string `json:"rules"`
	Flags   []string `json:"flags"`
	Kind    string   `json:"kind,omitempty"`
	Input   any      `json:"input"`
	Result  any      `json:"result"`
}

// Map is an object of a vector. Keys are written in order.
type Map = map[string]any

// Format returns the file as it is committed: small values on one line, so that a diff shows cases.
func (f *File) Format() ([]byte, error) {
	for i := range f.Vectors {
		if f.Vectors[i].Flags == nil {
			f.Vectors[i].Flags = []string{}
		}
	}
	if f.Flags == nil {
		f.Flags = map[string]string{}
	}
	return Format(f)
}

// Format renders any value the way vector files are rendered.
func Format(v any) ([]byte, error) {
	var compact bytes.Buffer
	enc := json.NewEncoder(&compact)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	p := printer{in: json.NewDecoder(&compact)}
	p.in.UseNumber()
	n, err := p.read()
	if err != nil {
		return nil, err
	}
	return append(n.write(nil, 0), '\n'), nil
}
