//go:build !linux

package bench

// AsBatch does nothing here.
func AsBatch() (undo func() error, err error) { return func() error { return nil }, nil }
