package running

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// freePorts returns n loopback ports that nobody listens on. They lie below the
// range from which the kernel takes ports for outgoing connections: a client
// that keeps dialling a server which is down would else reach itself.
func freePorts(n int) ([]int, error) {
	var found []int
	for range 1000 {
		port := 10_000 + rand.IntN(20_000)
		ln, err := net.Listen("tcp", address(port))
		if err != nil {
			continue
		}
		if err := ln.Close(); err != nil {
			return nil, err
		}
		if found = append(found, port); len(found) == n {
			return found, nil
		}
	}
	return nil, fmt.Errorf("found only %d of %d free ports", len(found), n)
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
