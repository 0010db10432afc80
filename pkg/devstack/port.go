package devstack

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"
)

// errPortTaken is the one failure to start that another port can cure.
var errPortTaken = errors.New("taken by another program")

// freePort returns a loopback port that nothing listens on. It stays below the
// ports that systems hand out to outgoing connections, or a server that is down
// for a moment could lose its port to one.
func freePort() (int, error) {
	const low, high, tries = 20_000, 32_000, 200
	for range tries {
		port := low + rand.IntN(high-low)
		if checkPort(port) == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port between %d and %d", low, high)
}

// checkPort returns errPortTaken if something listens on the port.
func checkPort(port int) error {
	ln, err := net.Listen("tcp4", address(port))
	if err != nil {
		return fmt.Errorf("port %d: %w (%w)", port, errPortTaken, err)
	}
	return ln.Close()
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// onPort calls start with the port, or if that is 0 with free ones until one is
// still free when start uses it. It returns the port used.
func onPort(port int, start func(port int) error) (int, error) {
	if port != 0 {
		return port, onThatPort(port, start)
	}
	const tries = 5
	var err error
	for range tries {
		if port, err = freePort(); err != nil {
			return 0, err
		}
		if err = start(port); !errors.Is(err, errPortTaken) {
			return port, err
		}
	}
	return 0, err
}

// onThatPort tries for a moment. A listener that this process closed stays open
// in a child that it is starting meanwhile, from the child's fork to its exec.
func onThatPort(port int, start func(port int) error) error {
	const patience = time.Second
	deadline := time.Now().Add(patience)
	for {
		err := start(port)
		if !errors.Is(err, errPortTaken) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}
