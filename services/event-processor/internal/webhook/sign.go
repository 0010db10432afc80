package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// prefix marks a secret of Standard Webhooks.
const prefix = "whsec_"

// NewSecret returns a secret of 256 bits, as receivers are given it.
func NewSecret() secret.Secret {
	raw := make([]byte, 32)
	rand.Read(raw)
	return secret.New(prefix + base64.StdEncoding.EncodeToString(raw))
}

// signedAt is the value of webhook-timestamp.
func signedAt(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

// sign returns the value of webhook-signature: one signature for each secret.
func sign(secrets []secret.Secret, id string, at time.Time, body []byte) (string, error) {
	var all []string
	for _, s := range secrets {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.Reveal(), prefix))
		if err != nil {
			return "", errors.New("a secret is not base64")
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + signedAt(at) + "."))
		mac.Write(body)
		all = append(all, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	if len(all) == 0 {
		return "", errors.New("there is no secret to sign with")
	}
	return strings.Join(all, " "), nil
}
