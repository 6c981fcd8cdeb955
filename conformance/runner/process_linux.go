package main

import "syscall"

// ownGroup keeps Ctrl-C at the terminal from the children: the runner ends them in order. Should the runner
// itself be killed, the kernel ends them.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
