// Command catalogue is the shop's catalogue service. Several instances may share one data directory.
package main

import (
	"errors"
	"flag"

	"github.com/octomesh/octomesh/examples/shop/catalogue"
	cataloguev1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/catalogue/v1"
	"github.com/octomesh/octomesh/examples/shop/instance"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

func main() {
	p := instance.New(cataloguev1.CatalogueTarget)
	data := flag.String("data", "", "directory of the products and reservations")
	flag.Parse()
	p.Exit(run(p, *data))
}

func run(p *instance.Process, data string) error {
	if data == "" {
		return errors.New("--data is missing: give a directory")
	}
	ctx, stop := p.Context()
	defer stop()
	store, err := catalogue.Open(data)
	if err != nil {
		return err
	}
	err = p.Serve(ctx, func(s *octomesh.Server) { cataloguev1.RegisterCatalogue(s, catalogue.New(ctx, store)) })
	return errors.Join(err, store.Close())
}
