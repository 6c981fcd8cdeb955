package policy

// Counted is a policy that counts what it does. Counters outlive generations.
type Counted interface {
	Policy
	// Counts yields each counter: the rule's name, or none, and what was done.
	Counts(yield func(rule, outcome string, n uint64))
}
