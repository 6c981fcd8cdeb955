package vector

import (
	"bytes"
	"encoding/json"
	"strings"
)

// width is how long a value may be to stand on one line.
const width = 120

// node is a JSON value with its keys in the order in which they were written.
type node struct {
	text    string // the value on one line
	keys    []string
	items   []node
	open    byte // '{', '[' or 0 for a scalar
	numbers bool // an array of numbers stays on one line, however long
}

type printer struct{ in *json.Decoder }

func (p *printer) read() (node, error) {
	tok, err := p.in.Token()
	if err != nil {
		return node{}, err
	}
	if d, ok := tok.(json.Delim); ok {
		return p.readAll(byte(d))
	}
	text, err := scalar(tok)
	return node{text: text}, err
}

func (p *printer) readAll(open byte) (node, error) {
	n := node{open: open, numbers: open == '['}
	var parts []string
	for p.in.More() {
		prefix := ""
		if open == '{' {
			tok, err := p.in.Token()
			if err != nil {
				return n, err
			}
			if prefix, err = scalar(tok); err != nil {
				return n, err
			}
			n.keys = append(n.keys, prefix)
			prefix += ": "
		}
		item, err := p.read()
		if err != nil {
			return n, err
		}
		n.numbers = n.numbers && item.open == 0 && item.text[0] != '"'
		n.items = append(n.items, item)
		parts = append(parts, prefix+item.text)
	}
	if _, err := p.in.Token(); err != nil {
		return n, err
	}
	n.text = string(open) + strings.Join(parts, ", ") + string(open+2)
	return n, nil
}

func scalar(v any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

func (n node) write(dst []byte, depth int) []byte {
	if n.open == 0 || n.numbers || len(n.items) == 0 || depth >= 2 && len(n.text) <= width {
		return append(dst, n.text...)
	}
	dst = append(dst, n.open)
	for i, item := range n.items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '\n')
		dst = append(dst, strings.Repeat("  ", depth+1)...)
		if n.open == '{' {
			dst = append(dst, n.keys[i]...)
			dst = append(dst, ": "...)
		}
		dst = item.write(dst, depth+1)
	}
	dst = append(dst, '\n')
	dst = append(dst, strings.Repeat("  ", depth)...)
	return append(dst, n.open+2)
}
