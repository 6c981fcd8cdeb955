package source

import (
	"errors"
	"fmt"
	"strings"
)

// Layout maps names to paths of a registry that is a tree, and back:
//
//	<prefix>/<environment>/<target>/<instance>
//
// Letters, digits and "." "_" ":" "@" "-" stand for themselves in a segment, everything else as %XX, in upper case. So
// no name can leave its segment, two names never have one path, and a path tells its names.
type Layout struct {
	// Prefix begins with a slash and does not end in one, or is empty.
	Prefix string
}

// Check refuses a prefix that would not work.
func (l Layout) Check() error {
	if l.Prefix == "" {
		return nil
	}
	if !strings.HasPrefix(l.Prefix, "/") {
		return fmt.Errorf("prefix %q does not begin with a slash", l.Prefix)
	}
	for part := range strings.SplitSeq(l.Prefix[1:], "/") {
		if part == "" || part == "." || part == ".." || Escape(part) != part {
			return fmt.Errorf("prefix %q: each part needs letters, digits and . _ : @ -, and one slash before it", l.Prefix)
		}
	}
	return nil
}

// Environment is where an environment's targets are, without a slash at the end.
func (l Layout) Environment(name string) string { return l.Prefix + "/" + Escape(name) }

// Target is where a key's instances are, without a slash at the end.
func (l Layout) Target(k Key) string { return l.Environment(k.Environment) + "/" + Escape(k.Target) }

// Instance is where one instance is.
func (l Layout) Instance(k Key, name string) string { return l.Target(k) + "/" + Escape(name) }

// Parse reads the names out of a path; instance is empty for the path of a target.
func (l Layout) Parse(path string) (k Key, instance string, err error) {
	rest, ok := strings.CutPrefix(path, l.Prefix+"/")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) < 2 || len(parts) > 3 {
		return Key{}, "", fmt.Errorf("path %q: want %s/<environment>/<target>/<instance>", path, l.Prefix)
	}
	for i, p := range parts {
		if parts[i], err = Unescape(p); err != nil {
			return Key{}, "", fmt.Errorf("path %q: %w", path, err)
		}
	}
	k = Key{Environment: parts[0], Target: parts[1]}
	if len(parts) == 3 {
		instance = parts[2]
		if err := checkName(nameForm, instance, nameSays); err != nil {
			return Key{}, "", fmt.Errorf("path %q: instance %w", path, err)
		}
	}
	return k, instance, k.Check()
}

const hexDigits = "0123456789ABCDEF"

// Escape makes a segment of a path of a name.
func Escape(name string) string {
	plain := true
	for i := range len(name) {
		plain = plain && plainByte(name[i])
	}
	if plain {
		return name
	}
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; plainByte(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	return b.String()
}

func plainByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._:@-", c) >= 0
}

var errEscape = errors.New("holds what is not escaped as it should be")

// Unescape is the opposite of [Escape]. It takes only what Escape makes, so that two paths never have one name.
func Unescape(segment string) (string, error) {
	if strings.IndexByte(segment, '%') < 0 {
		if Escape(segment) != segment {
			return "", fmt.Errorf("segment %q %w", segment, errEscape)
		}
		return segment, nil
	}
	b := make([]byte, 0, len(segment))
	for i := 0; i < len(segment); i++ {
		c := segment[i]
		if c == '%' {
			if i+2 >= len(segment) {
				return "", fmt.Errorf("segment %q %w", segment, errEscape)
			}
			high, low := strings.IndexByte(hexDigits, segment[i+1]), strings.IndexByte(hexDigits, segment[i+2])
			if high < 0 || low < 0 {
				return "", fmt.Errorf("segment %q %w", segment, errEscape)
			}
			c = byte(high<<4 | low)
			i += 2
		}
		b = append(b, c)
	}
	if Escape(string(b)) != segment {
		return "", fmt.Errorf("segment %q %w", segment, errEscape)
	}
	return string(b), nil
}
