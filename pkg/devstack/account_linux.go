package devstack

import "syscall"

// passEverywhere lets the process ignore file permissions, as its parent, root,
// does already.
func passEverywhere(attr *syscall.SysProcAttr) {
	const capDacOverride = 1 // CAP_DAC_OVERRIDE, which containers have by default
	attr.AmbientCaps = []uintptr{capDacOverride}
}
