//go:build race

package octomesh_test

const raceDetector = true
