package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An endpoint's life as an operator types it. The stack allows no address inside,
// so what is sent goes nowhere, and the command says so.
func TestAWebhookFromItsMakingToItsEnd(t *testing.T) {
	t.Parallel()
	s := newTenant(t)
	s.types("webhook list").exits(0).says("no webhooks", "fulcrum webhook create URL")
	s.types("webhook create https://127.0.0.1/hook").exits(exitFailure).says("not a public address")
	s.types("webhook create http://example.com/hook").exits(exitFailure).says("must be https")
	s.types("webhook create https://localhost/hook --type approval.wanted").exits(exitFailure).says("approval.requested")
	file := filepath.Join(t.TempDir(), "hook.secret")
	s.types("webhook create https://localhost/hook --type approval.requested --description pager --save "+file).exits(0).says("made webhook", "next: give "+file)
	kept, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(kept), "whsec_") {
		t.Fatalf("%q, %v", kept, err)
	}
	s.types("webhook create https://localhost/hook").exits(exitFailure).says("WEBHOOK_EXISTS", "Rotate")
	s.types("webhook list").exits(0).shows("ACTIVE", "https://localhost/hook", "approval.requested")
	if out := s.types("webhook list").out; strings.Contains(out, "whsec_") {
		t.Error("the list shows the secret")
	}
	s.types("webhook test https://localhost/hook").exits(exitFailure).shows("false", "not a public one", "msg_")
	s.types("webhook deliveries https://localhost/hook").exits(0).says("nothing was sent")
	s.types("webhook disable https://localhost/hook").exits(0).shows("DISABLED", "disabled by hand")
	s.types("webhook enable https://localhost/hook").exits(0).shows("ACTIVE")
	var rotated struct {
		Secret string `json:"secret"`
	}
	s.types("webhook rotate https://localhost/hook --overlap 2h -o json").exits(0).says("signs until").json(&rotated)
	if !strings.HasPrefix(rotated.Secret, "whsec_") || rotated.Secret == strings.TrimSpace(string(kept)) {
		t.Errorf("rotated to %q", rotated.Secret)
	}
	s.types("webhook delete https://localhost/hook").exits(exitUsage).says("--yes")
	s.types("webhook delete https://localhost/hook --yes").exits(0).says("deleted")
	s.types("webhook test https://localhost/hook").exits(exitFailure).says("no webhook")
}
