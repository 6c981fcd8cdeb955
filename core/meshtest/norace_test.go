//go:build !race

package meshtest_test

const much = 64
