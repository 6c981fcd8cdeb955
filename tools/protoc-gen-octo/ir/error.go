package ir

import (
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Error is a fault of the input, at the place where the author can mend it.
type Error struct {
	Path string
	// Line and Column count from 1; 0 where the compiler sent no positions.
	Line, Column int
	Message      string
}

// Error returns path:line:column: message, the form that editors and CI systems turn into a link.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.Path, e.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.Path, e.Line, e.Column, e.Message)
}

// Errorf returns an Error at the place where a descriptor is declared.
func Errorf(at protoreflect.Descriptor, format string, args ...any) error {
	file := at.ParentFile()
	fault := &Error{Path: file.Path(), Message: fmt.Sprintf(format, args...)}
	// A file has no place of its own: naming line 1 would point at a licence.
	if at == protoreflect.Descriptor(file) {
		return fault
	}
	// A declared element always has a path; an absent location comes back without one.
	if location := file.SourceLocations().ByDescriptor(at); location.Path != nil {
		fault.Line, fault.Column = location.StartLine+1, location.StartColumn+1
	}
	return fault
}
