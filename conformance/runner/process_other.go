//go:build !linux

package main

import "syscall"

// ownGroup keeps Ctrl-C at the terminal from the children: the runner ends them in order.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
