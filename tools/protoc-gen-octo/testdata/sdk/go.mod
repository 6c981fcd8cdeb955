module github.com/octomesh/octomesh/sdks/go

go 1.26
