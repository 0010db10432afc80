package devstack

import (
	"fmt"
	"os"
	"time"
)

// natsLog writes the server's log to a file. The server's own logger ends the
// whole process on a fatal message; this one hands the message over instead.
type natsLog struct {
	*os.File
	fatal chan string // the first fatal message
}

func openNATSLog(path string) (*natsLog, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &natsLog{File: f, fatal: make(chan string, 1)}, nil
}

func (l *natsLog) write(level, format string, args []any) {
	// A log that cannot be written is no reason to stop serving.
	_, _ = fmt.Fprintf(l, "%s [%s] %s\n", time.Now().UTC().Format(time.RFC3339), level, fmt.Sprintf(format, args...))
}

func (l *natsLog) Noticef(format string, args ...any) { l.write("INF", format, args) }
func (l *natsLog) Warnf(format string, args ...any)   { l.write("WRN", format, args) }
func (l *natsLog) Errorf(format string, args ...any)  { l.write("ERR", format, args) }
func (l *natsLog) Debugf(format string, args ...any)  { l.write("DBG", format, args) }
func (l *natsLog) Tracef(format string, args ...any)  { l.write("TRC", format, args) }
func (l *natsLog) Fatalf(format string, args ...any) {
	l.write("FTL", format, args)
	select {
	case l.fatal <- fmt.Sprintf(format, args...):
	default:
	}
}
