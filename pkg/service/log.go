package service

import (
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"

	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/telemetry"
)

// NewLog returns the logger that r asks for: LOG_LEVEL (debug, info, warn,
// error) and LOG_FORMAT (json, text, or auto: text for people, that is when w
// is a terminal). Records carry the ids of the trace they belong to.
func NewLog(r *config.Reader, w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	text := r.OneOf("LOG_LEVEL", "info", "debug", "info", "warn", "error")
	format := r.OneOf("LOG_FORMAT", "auto", "auto", "json", "text")
	if err := r.Err(); err != nil {
		return nil, err
	}
	if err := level.UnmarshalText([]byte(text)); err != nil {
		return nil, err
	}
	var h slog.Handler
	if format == "text" || format == "auto" && terminal(w) {
		h = tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: time.TimeOnly, NoColor: !terminal(w) || r.Getenv("NO_COLOR") != ""})
	} else {
		h = slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	}
	return slog.New(telemetry.LogHandler(h)), nil
}

// terminal reports whether w is a person's screen.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
