package deploycheck

import (
	"path/filepath"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// The server itself reads deploy/nats/nats.conf, the password from its
// environment: not in parallel.
func TestNATSTakesItsSettings(t *testing.T) {
	const password = "6E4XK2B7Q5M3Z" // a letter that means a unit after a digit is still a password
	t.Setenv("NATS_PASSWORD", password)
	o, err := server.ProcessConfigFile(filepath.Join(root, "deploy/nats/nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if o.Username != "fulcrum" || o.Password != password {
		t.Errorf("user %q", o.Username)
	}
	if !o.JetStream || o.StoreDir != "/data" || o.JetStreamMaxStore < 2<<30 {
		t.Errorf("JetStream %v in %s, %d bytes at most", o.JetStream, o.StoreDir, o.JetStreamMaxStore)
	}
}
