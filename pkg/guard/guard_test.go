package guard

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestOnlyPublicAddressesArePublic(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"93.184.215.14": true, "2606:2800:21f:cb07:6820:80da:af6b:8b2c": true,
		"127.0.0.1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false, "100.100.100.200": false,
		"0.0.0.0": false, "224.0.0.1": false, "255.255.255.255": false, "198.18.0.1": false, "240.0.0.1": false,
		"::1": false, "::": false, "fe80::1": false, "fd00:ec2::254": false, "ff02::1": false, "::ffff:127.0.0.1": false, "::ffff:169.254.169.254": false,
		"64:ff9b::a9fe:a9fe": false, "2002:7f00:1::": false, "::127.0.0.1": false,
	} {
		if got := Public(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

func TestNetworksAreReadAndContainWhatTheySay(t *testing.T) {
	t.Parallel()
	n, err := ParseNetworks([]string{"10.0.0.0/8", " 127.0.0.1", "fd00::/8"})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{"10.9.9.9": true, "::ffff:10.9.9.9": true, "127.0.0.1": true, "127.0.0.2": false, "fd00::1": true, "fe80::1": false, "fd00::1%eth0": false} {
		if got := n.Contain(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
	if (Networks)(nil).Contain(netip.MustParseAddr("10.0.0.1")) {
		t.Error("no network contains something")
	}
	if _, err := ParseNetworks([]string{"intranet"}); err == nil {
		t.Error("a word was taken for a network")
	}
}

// The address that is connected to decides, and not what a name was said to be:
// a name that leads inside is as refused as an address.
func TestNothingLeadsInside(t *testing.T) {
	t.Parallel()
	reached := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached = true
		http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusTemporaryRedirect)
	}))
	defer srv.Close()
	port := srv.URL[strings.LastIndexByte(srv.URL, ':'):]
	get := func(c *http.Client, url string) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f000001"} {
		if err := get(Client(Public), "http://"+host+port); err == nil {
			t.Errorf("%s was reached", host)
		}
	}
	if err := get(Client(Public), srv.URL); !errors.Is(err, ErrInside) {
		t.Errorf("inside: %v", err)
	}
	if reached {
		t.Error("the server inside was reached")
	}
	if err := get(Client(func(netip.Addr) bool { return true }), srv.URL); !errors.Is(err, ErrRedirect) {
		t.Errorf("a redirect: %v", err)
	}
}
