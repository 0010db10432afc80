//go:build !linux

package devstack

import "syscall"

// passEverywhere does nothing: capabilities are Linux's.
func passEverywhere(*syscall.SysProcAttr) {}
