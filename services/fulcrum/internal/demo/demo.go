// Package demo shows the main job on real components: two tenants, two agent
// programs, every kind of answer, and the proof of one decision. Each step
// states what must come out; anything else makes the demo fail.
package demo

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// Target is a running Fulcrum and the credential that may administer it.
type Target struct {
	GRPCAddr string // host:port of the gateway's native gRPC door
	HTTPURL  string // base URL of the gateway's HTTP door
	AdminKey secret.Secret
}

// Run plays every step against t and prints each as a line on out. It returns
// an error that names the failed steps, after all that could run have run.
func Run(ctx context.Context, t Target, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()

	r := newReport(out)
	w, err := setUp(ctx, t, r)
	if err != nil {
		return fmt.Errorf("set up the demo: %w", err)
	}
	defer w.close()

	r.title("An agent built on the published contract only")
	r.adopt(runAgent(ctx, w, "published-agent", w.acme.publishedKey), nil)

	r.title("An agent built on GovernanceService")
	r.adopt(runAgent(ctx, w, "governed-agent", w.acme.agentKey), w.reviewOnRequest(ctx, r))

	r.title("Promises under pressure")
	w.showCrowd(ctx, r)
	w.showIsolation(ctx, r)

	r.title("Evidence")
	w.showEvents(ctx, r)
	w.showProof(ctx, r)

	r.summary()
	return r.err()
}
