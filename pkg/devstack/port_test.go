package devstack

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
)

func TestTakenPortIsNamed(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	port := ln.Addr().(*net.TCPAddr).Port

	for name, start := range map[string]func(ctx context.Context) error{
		"PostgreSQL": func(ctx context.Context) error {
			_, err := StartPostgres(ctx, PostgresOptions{Port: port, NoFsync: true})
			return err
		},
		"Redis": func(ctx context.Context) error { _, err := StartRedis(ctx, RedisOptions{Port: port}); return err },
		"NATS":  func(context.Context) error { _, err := StartNATS(NATSOptions{Port: port}); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := start(testContext(t))
			if !errors.Is(err, errPortTaken) {
				t.Fatalf("error %v, want one that says the port is taken", err)
			}
			if want := "start " + name + ": port " + strconv.Itoa(port); !strings.Contains(err.Error(), want) {
				t.Errorf("error %q lacks %q", err, want)
			}
		})
	}
}

// Between finding a free port and listening on it, somebody else may take it.
func TestPortLostInTheMeantimeIsReplaced(t *testing.T) {
	t.Parallel()
	tries := 0
	port, err := onPort(0, func(int) error {
		if tries++; tries < 3 {
			return errPortTaken
		}
		return nil
	})
	if err != nil || tries != 3 || port == 0 {
		t.Errorf("port %d after %d tries, error %v", port, tries, err)
	}
}

func TestPortThatIsFreeInAMomentIsWaitedFor(t *testing.T) {
	t.Parallel()
	tries := 0
	port, err := onPort(4711, func(int) error {
		if tries++; tries < 3 {
			return errPortTaken
		}
		return nil
	})
	if err != nil || tries != 3 || port != 4711 {
		t.Errorf("port %d after %d tries, error %v", port, tries, err)
	}
}

// What each server says of a taken port must be understood: this goes around the
// look before.
func TestServersReportATakenPort(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	p := startPostgres(t, PostgresOptions{NoFsync: true})
	r, err := StartRedis(ctx, RedisOptions{})
	must(t, err)
	t.Cleanup(func() { check(t, r.Stop()) })
	for _, d := range []*daemon{p.daemon, r.daemon} {
		t.Run(d.name, func(t *testing.T) {
			must(t, d.stop())
			ln, err := net.Listen("tcp4", address(d.port))
			must(t, err)
			defer ln.Close()
			if err := d.serve(ctx, d.port); !errors.Is(err, errPortTaken) {
				t.Errorf("error %v, want one that says the port is taken", err)
			}
		})
	}
}
