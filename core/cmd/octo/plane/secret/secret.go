// Package secret reads passwords: from files and environment variables, never from a command line, which every process
// of the machine can read. One that everybody knows is refused.
package secret

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// maxLength is how long a password may be, in bytes.
const maxLength = 1024

// File reads the password of a user from a file's first line.
func File(user, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLength+2))
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(string(b), "\n")
	password := strings.TrimSuffix(first, "\r")
	if err := Check(user, password); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return password, nil
}

// known are what products ship with, and what examples and people write when they mean to change it later.
func known() []string {
	return []string{
		"admin", "changeit", "changeme", "default", "etcd", "guest", "octo", "octomesh", "pass", "passw0rd", "password", "qwerty", "root",
		"secret", "super", "test", "zookeeper", "123456", "12345678",
	}
}

// Check refuses a password that is none, or one that everybody would try first.
func Check(user, password string) error {
	switch plain := strings.ToLower(password); {
	case password == "":
		return errors.New("the password is empty")
	case len(password) > maxLength:
		return fmt.Errorf("the password is longer than %d bytes", maxLength)
	case plain == strings.ToLower(user) || slices.Contains(known(), plain):
		return fmt.Errorf("the password of %q is one that everybody would try first: change it", user)
	}
	return nil
}
