//go:build linux

package process

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// OwnMounts has a program that is about to start see mounts of its own: what it mounts nobody else sees, and is gone when it
// ends. With asUser it has the right to mount there though it is nobody's administrator, where the host lets it: by a user
// namespace in which it is who it was.
func OwnMounts(cmd *exec.Cmd, asUser bool) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	a := cmd.SysProcAttr
	a.Cloneflags |= syscall.CLONE_NEWNS
	if asUser {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
		a.AmbientCaps = append(a.AmbientCaps, unix.CAP_SYS_ADMIN)
	}
}

// KeepMounts is for such a program: what it mounts stays with it, and what it starts.
func KeepMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return &os.PathError{Op: "making mounts private", Path: "/", Err: err}
	}
	return nil
}

// SmallDisk mounts a file system of so many bytes at an empty directory, which it makes, and returns what takes it
// away, with all that was done to it. It needs the right to mount; without it the error is of kind fs.ErrPermission.
func SmallDisk(dir string, size int) (remove func() error, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0755", size)); err != nil {
		return nil, &os.PathError{Op: "mount", Path: dir, Err: err}
	}
	return func() error {
		for n := 0; ; n++ {
			switch err := unix.Unmount(dir, unix.MNT_DETACH); {
			case err == unix.EINVAL && n > 0: // the last one is gone
				return nil
			case err != nil:
				return &os.PathError{Op: "unmount", Path: dir, Err: err}
			}
		}
	}, nil
}

// ReadOnly makes a disk of SmallDisk read-only, or writable again. What is open for writing stays so, as on a disk whose errors
// have it mounted so: nothing more can be opened for writing, made, renamed or removed.
func ReadOnly(dir string, on bool) error {
	if !on {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return &os.PathError{Op: "unmount", Path: dir, Err: err}
		}
		return nil
	}
	err := unix.Mount(dir, dir, "", unix.MS_BIND, "") // over it: open files, which would prevent it, are of the one below
	if err == nil {
		err = unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
	if err != nil {
		return &os.PathError{Op: "remount", Path: dir, Err: err}
	}
	return nil
}

// FillDisk writes a file of that name until the disk is full. Removing it gives the space back.
func FillDisk(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	_ = f.Close()
	if pe, ok := err.(*os.PathError); ok && pe.Err == syscall.ENOSPC {
		return nil
	}
	return err
}
