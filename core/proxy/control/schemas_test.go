package control_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// schemaOf is a schema with these services, and padding of so many bytes.
func schemaOf(t testing.TB, padding int, services ...string) *resourcev1.Schema {
	t.Helper()
	f := &descriptorpb.FileDescriptorProto{Name: proto.String("s.proto"), Package: proto.String(strings.Repeat("x", padding) + "p")}
	for _, s := range services {
		f.Service = append(f.Service, &descriptorpb.ServiceDescriptorProto{Name: proto.String(s)})
	}
	raw, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{f}})
	if err != nil {
		t.Fatal(err)
	}
	return &resourcev1.Schema{DescriptorSet: raw}
}

func (p *pilot) schema(target string, s *resourcev1.Schema) {
	p.Cache.Load(p.Topic(resource.KindSchema, target), nil)
	if s != nil {
		p.Set(resource.KindSchema, target, "", s)
	}
}

// follows tells whether somebody follows a schema at the Pilot.
func (p *pilot) follows(target string) bool {
	return p.Cache.Followed(p.Topic(resource.KindSchema, target))
}

// services are those of a target's schema, once they are as wanted.
func (p *proxy) services(t testing.TB, target string, want ...string) {
	t.Helper()
	for until := time.Now().Add(long); ; time.Sleep(time.Millisecond) {
		d, err := p.Schema(within(t), target)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		if d != nil {
			got = d.Services
		}
		if slices.Equal(got, want) {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%s serves %v, want %v", target, got, want)
		}
	}
}

func TestSchemasAreFollowedOnDemand(t *testing.T) {
	pilot := startPilot(t)
	pilot.schema("cart", schemaOf(t, 0, "Cart"))
	pilot.schema("mail", nil)
	p := startProxy(t, "", nil, pilot.Conn)
	if err := p.Await(within(t), "cart"); err != nil {
		t.Fatal(err)
	}
	if pilot.follows("cart") {
		t.Error("a schema is followed for which nobody has asked")
	}
	p.services(t, "cart", "p.Cart")
	p.services(t, "mail")
	p.services(t, "no target's name")
	pilot.schema("cart", schemaOf(t, 0, "Cart", "Till"))
	p.services(t, "cart", "p.Cart", "p.Till")
	pilot.schema("mail", schemaOf(t, 0, "Mail"))
	p.services(t, "mail", "p.Mail")
	pilot.Cache.Load(pilot.Topic(resource.KindSchema, "cart"), nil)
	p.services(t, "cart")
}

func TestSchemasThatCannotBeReadAreRefusedAndTheLastGoodGoesOn(t *testing.T) {
	pilot := startPilot(t)
	pilot.schema("cart", schemaOf(t, 0, "Cart"))
	pilot.schema("mail", &resourcev1.Schema{DescriptorSet: []byte("none")})
	p := startProxy(t, "", nil, pilot.Conn)
	p.services(t, "cart", "p.Cart")
	pilot.schema("cart", &resourcev1.Schema{DescriptorSet: []byte("none")})
	if why := <-pilot.refused; !strings.Contains(why, `schema "prod/cart"`) {
		t.Errorf("the Pilot hears %q", why)
	}
	p.services(t, "cart", "p.Cart")
	p.services(t, "mail") // there never was a good one
}

func TestNobodyWaitsForASchemaLongerThanHeWants(t *testing.T) {
	p := startProxy(t, "", nil, nobody(t))
	ctx, cancel := context.WithCancelCause(context.Background())
	enough := errors.New("enough")
	cancel(enough)
	if _, err := p.Schema(ctx, "cart"); !errors.Is(err, enough) || !strings.Contains(err.Error(), "cart") {
		t.Errorf("it ends %v", err)
	}
}

func TestSchemasGoOnWithAnotherPilot(t *testing.T) {
	first, second := startPilot(t), startPilot(t)
	first.schema("cart", schemaOf(t, 0, "Cart"))
	second.schema("cart", schemaOf(t, 0, "Cart"))
	p := startProxy(t, "", nil, first.Conn, second.Conn)
	p.services(t, "cart", "p.Cart")
	first.Stop()
	p.services(t, "cart", "p.Cart") // while nobody is there, too
	second.schema("cart", schemaOf(t, 0, "Till"))
	p.services(t, "cart", "p.Till")
}

// However many are asked for, few are held: those that were asked for last.
func TestSchemasAreBounded(t *testing.T) {
	pilot := startPilot(t)
	p := startProxy(t, "", nil, pilot.Conn)
	const most = 64
	names := func(n int) string { return fmt.Sprintf("t%d", n) }
	for n := range most + 10 {
		pilot.schema(names(n), schemaOf(t, 0, "S"))
		p.services(t, names(n), "p.S")
		p.services(t, names(0), "p.S") // it is asked for again and again
	}
	gone := func(n int) bool { return !pilot.follows(names(n)) }
	for until := time.Now().Add(long); !gone(10); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the oldest schemas are followed still")
		}
	}
	for n := range most + 10 {
		if want := n > 0 && n <= 10; gone(n) != want {
			t.Errorf("%s: left is %v, want %v", names(n), gone(n), want)
		}
	}
}

func TestSchemasAreBoundedInBytes(t *testing.T) {
	pilot := startPilot(t)
	p := startProxy(t, "", nil, pilot.Conn)
	for n := range 20 { // of 300 KB each, 4 MiB hold 13
		name := fmt.Sprintf("t%d", n)
		pilot.schema(name, schemaOf(t, 300<<10, "S"))
		if d, err := p.Schema(within(t), name); err != nil || d == nil {
			t.Fatal(d, err)
		}
	}
	followed := func() (n int) {
		for i := range 20 {
			if pilot.follows(fmt.Sprintf("t%d", i)) {
				n++
			}
		}
		return n
	}
	for until := time.Now().Add(long); followed() != 13; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d are held", followed())
		}
	}
}
