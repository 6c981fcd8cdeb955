package resource_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestAChosenNodeHasAShareOfItsOwn(t *testing.T) {
	s := &resourcev1.MeshSwitch{Permille: 10, Nodes: []string{"a"}, NodeShares: []*resourcev1.NodeShare{
		{Nodes: []string{"b", "c"}, Permille: 0}, {Nodes: []string{"d"}, Permille: 500},
	}}
	for node, want := range map[string]uint32{"": 10, "a": 1000, "b": 0, "c": 0, "d": 500, "e": 10} {
		if got := resource.Share(s, node); got != want {
			t.Errorf("node %q has %d, want %d", node, got, want)
		}
	}
	if got := resource.Share(nil, "a"); got != 0 {
		t.Error(got)
	}
}

func TestSharesOfNodesAreWrittenInOneWay(t *testing.T) {
	want := map[string]uint32{"a": 1000, "b": 0, "c": 0, "d": 500, "z": 1000}
	s := &resourcev1.MeshSwitch{Permille: 10, Nodes: []string{"gone"}}
	resource.SetNodeShares(s, want)
	if got := resource.NodeShares(s); !maps.Equal(got, want) {
		t.Fatal(got)
	}
	written := &resourcev1.MeshSwitch{Permille: 10, Nodes: []string{"a", "z"}, NodeShares: []*resourcev1.NodeShare{
		{Nodes: []string{"b", "c"}}, {Nodes: []string{"d"}, Permille: 500},
	}}
	if !proto.Equal(s, written) {
		t.Fatal(s)
	}
	if problems := resource.ValidateConfiguration(&resourcev1.Configuration{MeshSwitches: []*resourcev1.MeshSwitch{{Target: "t", NodeShares: s.NodeShares}}}, nil, ""); len(problems) > 0 {
		t.Fatal(problems)
	}
}

func TestNodesOfASwitchAreCheckedAndBounded(t *testing.T) {
	many := func(n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprint("n", i))
		}
		return out
	}
	shares := make([]*resourcev1.NodeShare, 101)
	for i := range shares {
		shares[i] = &resourcev1.NodeShare{Nodes: []string{fmt.Sprint("n", i)}}
	}
	for name, test := range map[string]struct {
		s    *resourcev1.MeshSwitch
		want string
	}{
		"twice in nodes":         {&resourcev1.MeshSwitch{Nodes: []string{"a", "a"}}, `nodes[1] (switch ,t): "a" stands in mesh_switches[0].nodes[0] too: a node has one share`},
		"in nodes and in shares": {&resourcev1.MeshSwitch{Nodes: []string{"a"}, NodeShares: []*resourcev1.NodeShare{{Nodes: []string{"b", "a"}}}}, `node_shares[0].nodes[1] (switch ,t): "a" stands in mesh_switches[0].nodes[0] too`},
		"more than the whole":    {&resourcev1.MeshSwitch{NodeShares: []*resourcev1.NodeShare{{Nodes: []string{"b"}, Permille: 1001}}}, "node_shares[0].permille (switch ,t): 1001 is more than 1000"},
		"no node":                {&resourcev1.MeshSwitch{NodeShares: []*resourcev1.NodeShare{{Permille: 1}}}, "node_shares[0].nodes (switch ,t): is missing"},
		"no name":                {&resourcev1.MeshSwitch{NodeShares: []*resourcev1.NodeShare{{Nodes: []string{"a b"}}}}, "node_shares[0].nodes[0]"},
		"too many nodes":         {&resourcev1.MeshSwitch{Nodes: many(500), NodeShares: []*resourcev1.NodeShare{{Nodes: many(501)}}}, "nodes (switch ,t): 1001 nodes are named"},
		"too many shares":        {&resourcev1.MeshSwitch{NodeShares: shares}, "node_shares (switch ,t): holds more than 100"},
	} {
		test.s.Target = "t"
		problems := resource.ValidateConfiguration(&resourcev1.Configuration{MeshSwitches: []*resourcev1.MeshSwitch{test.s}}, nil, "")
		if len(problems) == 0 || !strings.Contains(problems[0].String(), test.want) {
			t.Errorf("%s: %v", name, problems)
		}
	}
}
