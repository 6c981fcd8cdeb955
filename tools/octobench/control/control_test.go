package control_test

import (
	"os"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/tools/octobench/control"
)

// TestMain makes this binary the sides of its own measurements.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == control.Command {
		if err := control.Side(os.Args[2:]); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestPushesOfBothServersAreMeasured(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := control.Run(self, []string{"--streams", "20", "--connections", "2", "--fanouts", "1,20", "--rounds", "1", "--pushes", "100"}, &out); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{"20 streams over 2 connections", " 1 pilot ", " 20 bare ", "KB a stream"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing:\n%s", want, out.String())
		}
	}
}

func TestWrongNumbersAreRefused(t *testing.T) {
	for _, args := range [][]string{{"--fanouts", "0"}, {"--fanouts", "1,x"}, {"--streams", "5", "--fanouts", "6"}} {
		if err := control.Run("nothing", args, &strings.Builder{}); err == nil {
			t.Errorf("%v: taken", args)
		}
	}
}
