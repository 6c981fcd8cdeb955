//go:build race

package proxy_test

// raceEnabled: the race detector allocates.
const raceEnabled = true
