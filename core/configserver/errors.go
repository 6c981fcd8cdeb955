package configserver

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"

	"github.com/octomesh/octomesh/core/configserver/store"
	"github.com/octomesh/octomesh/core/resource"
)

// refuse is an error with a detail for programs; its text says the same to people.
func refuse(code codes.Code, detail protoadapt.MessageV1, format string, args ...any) error {
	s := status.Newf(code, format, args...)
	if with, err := s.WithDetails(detail); err == nil {
		s = with
	}
	return s.Err()
}

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

// wrong refuses files with what is wrong in them.
func wrong(problems []resource.Problem) error {
	bad := resource.Errors(problems)
	var e *resource.Error
	if !errors.As(bad, &e) {
		return nil
	}
	return refuse(codes.InvalidArgument, protoadapt.MessageV1Of(&configv1.Problems{Problems: encodeProblems(e.Problems)}), "%s", e.Error())
}

func encodeProblems(problems []resource.Problem) []*configv1.Problem {
	var out []*configv1.Problem
	for _, p := range problems {
		out = append(out, &configv1.Problem{
			File: p.File, Line: uint32(p.Line), Field: p.Field, Resource: p.Resource, Text: p.Text, Warning: p.Warning,
		})
	}
	return out
}

// storeError is what a caller is told if the store does not answer as it should.
func storeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	case errors.Is(err, store.ErrInvalid):
		return status.Errorf(codes.InvalidArgument, "too much at once: %v: apply fewer resources at a time", err)
	}
	return status.Errorf(codes.Unavailable, "the store of configurations does not answer: %v: try again", err)
}

// changedBy says what a version is, to whoever expected another one.
func changedBy(v *configv1.Version) string {
	if v == nil {
		return "is not there"
	}
	what := "is"
	if v.GetDeleted() {
		what = "was deleted as"
	}
	return fmt.Sprintf("%s revision %d, by %s at %s: %s", what, v.GetRevision(), v.GetAuthor(),
		v.GetTime().AsTime().Format("2006-01-02 15:04:05 MST"), v.GetReason())
}
