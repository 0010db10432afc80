package devstack

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const natsUser = "fulcrum"

// start starts the server on n.port, choosing one if it is 0. n.mu is held.
func (n *NATS) start() error {
	port, err := onPort(n.port, n.launch)
	if err != nil {
		return fmt.Errorf("start NATS: %w", err)
	}
	n.port = port
	return nil
}

func (n *NATS) launch(port int) error {
	if err := checkPort(port); err != nil {
		return err
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "fulcrum-devstack",
		Host:       "127.0.0.1",
		Port:       port,
		Username:   natsUser,
		Password:   n.password,
		NoSigs:     true, // signals are the calling program's business
		JetStream:  true,
		StoreDir:   n.store,
		// Fixed, because by default they follow what this machine has free.
		JetStreamMaxMemory:     1 << 30,
		JetStreamMaxStore:      10 << 30,
		DisableJetStreamBanner: true,
	})
	if err != nil {
		return err
	}
	log, err := openNATSLog(filepath.Join(n.home.dir, "nats.log"))
	if err != nil {
		return err
	}
	s.SetLogger(log, false, false)
	s.Start()
	if err := awaitNATS(s, log); err != nil {
		s.Shutdown()
		s.WaitForShutdown()
		return errors.Join(err, log.Close())
	}
	n.server, n.log = s, log
	return nil
}

// awaitNATS returns when s accepts clients, gave up, or is late.
func awaitNATS(s *server.Server, log *natsLog) error {
	late := time.Now().Add(startLimit)
	for time.Now().Before(late) {
		if s.ReadyForConnections(20 * time.Millisecond) {
			return nil
		}
		select {
		case reason := <-log.fatal:
			if strings.Contains(strings.ToLower(reason), syscall.EADDRINUSE.Error()) {
				return fmt.Errorf("%w: %s", errPortTaken, reason)
			}
			return fmt.Errorf("%s; its log ends:\n%s", reason, tail(log.Name()))
		default:
		}
	}
	return fmt.Errorf("not ready; its log ends:\n%s", tail(log.Name()))
}

// halt stops the server if it runs. n.mu is held.
func (n *NATS) halt() {
	if n.server == nil {
		return
	}
	n.server.Shutdown()
	n.server.WaitForShutdown()
	_ = n.log.Close() // every line is written by now
	n.server, n.log = nil, nil
}
