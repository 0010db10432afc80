package jail

import (
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// confine ends the child with its parent, and keeps terminal signals from it.
func confine(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// limitMemory is the kernel's bound, behind watchMemory. It counts more than the
// heap, so it is wider. A binary with the race detector maps terabytes, and has
// none.
func limitMemory(heap int64) {
	if !raceDetector {
		bound := uint64(2*heap + 512<<20)
		_ = syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: bound, Max: bound})
	}
	nothing := syscall.Rlimit{}
	_ = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &nothing) // writes no file
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &nothing)
}

var onCPULimit = sync.OnceFunc(func() {
	over := make(chan os.Signal, 1)
	signal.Notify(over, syscall.SIGXCPU)
	go func() {
		<-over
		os.Exit(exitCPU)
	}()
})

// limitCPU gives the process d more CPU time than it has used. The kernel counts
// whole seconds.
func limitCPU(d time.Duration) error {
	onCPULimit()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return err
	}
	total := time.Duration(used.Utime.Nano()+used.Stime.Nano()) + d
	var now syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CPU, &now); err != nil {
		return err
	}
	now.Cur = min(uint64((total+time.Second-1)/time.Second), now.Max)
	return syscall.Setrlimit(syscall.RLIMIT_CPU, &now)
}
