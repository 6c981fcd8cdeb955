package resource

import "strings"

// Wildcard is the name by which xDS clients ask for whatever there is for them.
const Wildcard = "*"

// variantMark parts the two parts of a derived topic's target. No name has it.
const variantMark = "\x00"

// DerivedTopic is the topic of a name of the xDS protocol, which stands alone on the stream: the environment is its client's.
// variant is what the same name means to different clients by: two of one variant are told the same.
func DerivedTopic(k Kind, environment, name, variant string) Topic {
	return Topic{k, environment, name + variantMark + variant}
}

// Parts takes apart what [DerivedTopic] put together.
func (t Topic) Parts() (name, variant string) {
	name, variant, _ = strings.Cut(t.Target, variantMark)
	return name, variant
}

// IsDerivedName tells whether a client may ask for such a name; there need not be anything of it.
func IsDerivedName(name string) bool {
	return name != "" && len(name) <= maxDerivedName && !strings.Contains(name, variantMark)
}

// maxDerivedName bounds the names of clusters, which name tags beside the target.
const maxDerivedName = 4096
