// Package guard calls addresses that tenants wrote, and lets none of them lead
// to where only we can go.
package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Client returns a client that connects only to addresses that are allowed,
// looked at after names were resolved and right before the connection, so that
// no name can lead elsewhere, whatever it resolves to a moment later. It follows
// no redirect, uses no proxy and keeps no cookies. Give each request a deadline.
func Client(allowed func(netip.Addr) bool) *http.Client {
	return Over(&net.Dialer{
		Timeout: dialTimeout,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil || !allowed(ap.Addr().Unmap()) {
				return ErrInside
			}
			return nil
		},
	})
}

const dialTimeout = 2 * time.Second

// Over is Client for addresses that the operator wrote: they may lead anywhere.
func Over(d *net.Dialer) *http.Client {
	if d.Timeout == 0 {
		d.Timeout = dialTimeout
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: d.DialContext, Proxy: nil, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: 4, MaxConnsPerHost: 32, IdleConnTimeout: 30 * time.Second,
			TLSHandshakeTimeout: 2 * time.Second, MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return ErrRedirect },
	}
}

// Why a request was not made, or its answer not followed.
var (
	ErrInside   = errors.New("the address is not a public one")
	ErrRedirect = errors.New("redirects are not followed")
)

// special are the ranges that are not on the public internet, beside those that
// netip knows: this network, shared, protocol assignments, documentation,
// benchmarks, reserved, and the IPv6 ranges that carry an IPv4 address inside.
var special = func() (out []netip.Prefix) {
	for _, p := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fec0::/10", "3fff::/20", "5f00::/16",
	} {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}()

// Public reports whether an address is on the public internet.
func Public(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsValid() && a.Zone() == "" && a.IsGlobalUnicast() && !a.IsPrivate() &&
		!slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Networks are ranges of addresses that the operator allows besides public ones.
type Networks []netip.Prefix

// ParseNetworks reads ranges such as 10.0.0.0/8, and single addresses.
func ParseNetworks(list []string) (Networks, error) {
	var out Networks
	for _, text := range list {
		text = strings.TrimSpace(text)
		p, err := netip.ParsePrefix(text)
		if a, single := netip.ParseAddr(text); err != nil && single == nil {
			p, err = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q is not a network such as 10.0.0.0/8, nor an address", text)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// Contain reports whether a is in one of them.
func (n Networks) Contain(a netip.Addr) bool {
	a = a.Unmap()
	return a.Zone() == "" && slices.ContainsFunc(n, func(p netip.Prefix) bool { return p.Contains(a) })
}
