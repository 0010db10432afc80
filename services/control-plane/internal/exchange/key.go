package exchange

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// publicOf is the public half of a note signer key,
// PRIVATE+KEY+<name>+<hash>+<key>.
func publicOf(key string) (string, error) {
	wrong := errors.New("signing key is no Ed25519 note signer key (PRIVATE+KEY+<name>+<hash>+<key>)")
	parts := strings.SplitN(key, "+", 5)
	if len(parts) != 5 {
		return "", wrong
	}
	raw, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(raw) != 1+ed25519.SeedSize {
		return "", wrong
	}
	public, ok := ed25519.NewKeyFromSeed(raw[1:]).Public().(ed25519.PublicKey)
	if !ok {
		return "", wrong
	}
	return note.NewEd25519VerifierKey(parts[2], public)
}
