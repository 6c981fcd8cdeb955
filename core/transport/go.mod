module github.com/octomesh/octomesh/core/transport

go 1.26
