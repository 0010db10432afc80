package secret

import (
	"net"
	"net/netip"
	"strings"
)

// Loopback reports whether addr, a listen or dial address, can be reached
// from this machine only. "127.0.0.1:1", "[::1]:1", "localhost:1" and unix
// sockets can; ":1" and every name that would need resolving cannot.
func Loopback(addr string) bool {
	for _, scheme := range []string{"unix:", "unix-abstract:", "passthrough:///bufnet", "passthrough:///bufconn"} {
		if strings.HasPrefix(addr, scheme) {
			return true
		}
	}
	if _, rest, ok := strings.Cut(addr, ":///"); ok { // dns:///host:port
		addr = rest
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.Trim(addr, "[]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
