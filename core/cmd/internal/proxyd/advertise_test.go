package proxyd

import (
	"testing"

	"google.golang.org/protobuf/proto"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestWhereOtherProxiesReachThisOne(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		advertise, bound, want string
		register               *bool
		bad                    bool
	}{
		{"", "10.0.0.7:81", "10.0.0.7:81", nil, false},
		{"host:80", "[::]:81", "host:80", nil, false},
		{"host:0", "[::]:81", "host:81", nil, false},
		{"[fd00::1]:0", "0.0.0.0:81", "[fd00::1]:81", nil, false},
		{"", "[::]:81", "", nil, true},
		{"", "0.0.0.0:81", "", nil, true},
		{"", "0.0.0.0:81", "0.0.0.0:81", proto.Bool(false), false}, // it tells nobody
	} {
		b := &resourcev1.Bootstrap{AdvertiseAddress: c.advertise, Control: &resourcev1.ControlPlane{Register: c.register}}
		if got, err := advertised(b, c.bound); got != c.want || (err != nil) != c.bad {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}
