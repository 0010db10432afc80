package stack

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
)

// keys are the secrets of one data folder, made at its first start and kept
// beside its data, readable by its owner only.
type keys struct {
	AppPassword     string `json:"app_password"`
	MigratePassword string `json:"migrate_password"`
	InternalToken   string `json:"internal_token"`
	Pepper          string `json:"key_pepper"`
	BundleKey       string `json:"bundle_key"`
	AuditKey        string `json:"audit_key"`
	AdminKey        string `json:"admin_key"`
	WalletKEK       string `json:"wallet_kek"`  // 32 bytes in base64
	PolicyKey       string `json:"policy_key"`  // signs exported policies
	WebhookKEK      string `json:"webhook_kek"` // 32 bytes in base64
}

const (
	keysFile     = "keys.json"
	policySigner = "fulcrum.local/policies"
)

func loadKeys(dir string) (keys, error) {
	var k keys
	path := filepath.Join(dir, keysFile)
	b, err := os.ReadFile(path)
	if err == nil {
		if err := json.Unmarshal(b, &k); err != nil {
			return k, fmt.Errorf("%s is damaged: %w", path, err)
		}
		err := k.complete(path)
		return k, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	audit, _, err := note.GenerateKey(rand.Reader, "fulcrum.local/audit")
	if err != nil {
		return k, fmt.Errorf("generate audit key: %w", err)
	}
	policies, _, err := note.GenerateKey(rand.Reader, policySigner)
	if err != nil {
		return k, fmt.Errorf("generate policy key: %w", err)
	}
	k = keys{
		AppPassword: rand.Text(), MigratePassword: rand.Text(), InternalToken: long(), Pepper: long(),
		BundleKey: long(), AuditKey: audit, AdminKey: long(), WalletKEK: newKEK(), WebhookKEK: newKEK(), PolicyKey: policies,
	}
	return k, k.save(path)
}

// complete adds the keys that a folder of an older release has none of.
func (k *keys) complete(path string) error {
	if k.WalletKEK != "" && k.WebhookKEK != "" && k.PolicyKey != "" {
		return nil
	}
	if k.WalletKEK == "" {
		k.WalletKEK = newKEK()
	}
	if k.WebhookKEK == "" {
		k.WebhookKEK = newKEK()
	}
	if k.PolicyKey == "" {
		var err error
		if k.PolicyKey, _, err = note.GenerateKey(rand.Reader, policySigner); err != nil {
			return fmt.Errorf("generate policy key: %w", err)
		}
	}
	return k.save(path)
}

func (k keys) save(path string) error {
	b, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// newKEK wraps secrets that are in the database: the signing keys of wallets, or
// what signs webhooks.
func newKEK() string {
	raw := make([]byte, 32)
	rand.Read(raw)
	return base64.StdEncoding.EncodeToString(raw)
}

// long is a secret of at least 256 bits.
func long() string { return rand.Text() + rand.Text() }
