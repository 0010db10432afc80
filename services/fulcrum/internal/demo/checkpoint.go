package demo

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// parseCheckpoint reads the body of a C2SP tlog-checkpoint: origin, tree size,
// base64 root hash, one a line.
func parseCheckpoint(text string) (size int64, root tlog.Hash, err error) {
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) < 4 || lines[0] == "" {
		return 0, root, errors.New("checkpoint has fewer than three lines")
	}
	size, err = strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return 0, root, fmt.Errorf("checkpoint size %q is not a number", lines[1])
	}
	root, err = tlog.ParseHash(lines[2])
	if err != nil {
		return 0, root, fmt.Errorf("checkpoint root: %w", err)
	}
	return size, root, nil
}
