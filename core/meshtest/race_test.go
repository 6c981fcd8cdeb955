//go:build race

package meshtest_test

// much is the volume of the big transfers, in MiB: the race detector makes them slow.
const much = 16
