package trail

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"

	"golang.org/x/mod/sumdb/note"
)

// algEd25519 is the signature type byte of C2SP signed-note for Ed25519.
const algEd25519 = 1

func publicKey(name, encodedSeed string) (string, error) {
	seed, err := base64.StdEncoding.DecodeString(encodedSeed)
	if err != nil || len(seed) != 1+ed25519.SeedSize || seed[0] != algEd25519 {
		return "", errors.New("audit key is not an Ed25519 note key")
	}
	return note.NewEd25519VerifierKey(name, ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey))
}
