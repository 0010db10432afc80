package config

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Int returns key as a whole number that is not negative, or def.
func (r *Reader) Int(key string, def int) int {
	return r.IntBetween(key, def, 0, math.MaxInt)
}

// IntBetween returns key as a whole number in [low, high], or def.
func (r *Reader) IntBetween(key string, def, low, high int) int {
	v, ok := r.lookup(key, strconv.Itoa(def))
	if !ok {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		r.bad(key, v, "a whole number "+bounds(low, high, math.MaxInt))
		return def
	}
	return n
}

// Float returns key as a finite number in [low, high], or def.
func (r *Reader) Float(key string, def, low, high float64) float64 {
	v, ok := r.lookup(key, strconv.FormatFloat(def, 'g', -1, 64))
	if !ok {
		return def
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || !(f >= low && f <= high) { // so written, NaN fails too
		r.bad(key, v, fmt.Sprintf("a number from %g to %g", low, high))
		return def
	}
	return f
}

// Bool returns key as a truth value, or def.
func (r *Reader) Bool(key string, def bool) bool {
	v, ok := r.lookup(key, strconv.FormatBool(def))
	if !ok {
		return def
	}
	switch strings.ToLower(v) {
	case "1", "t", "true", "yes", "on":
		return true
	case "0", "f", "false", "no", "off":
		return false
	}
	r.bad(key, v, "true or false")
	return def
}

// Duration returns key as a time.Duration that is not negative, or def.
func (r *Reader) Duration(key string, def time.Duration) time.Duration {
	return r.DurationBetween(key, def, 0, math.MaxInt64)
}

// DurationBetween returns key as a time.Duration in [low, high], or def.
func (r *Reader) DurationBetween(key string, def, low, high time.Duration) time.Duration {
	v, ok := r.lookup(key, def.String())
	if !ok {
		return def
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < low || d > high {
		r.bad(key, v, "a duration like 1.5s or 10m, "+bounds(low, high, math.MaxInt64))
		return def
	}
	return d
}

// Addr returns key as a host:port to dial, or def.
func (r *Reader) Addr(key, def string) string {
	v, ok := r.lookup(key, def)
	if !ok {
		return def
	}
	if host, err := hostOf(v); err != nil || host == "" {
		r.bad(key, v, "host:port")
		return def
	}
	return v
}

// URL returns key as an absolute URL in one of the schemes, or def, which may
// be "". A password in a value that is wrong is not repeated.
func (r *Reader) URL(key, def string, schemes ...string) string {
	v, ok := r.lookup(key, def)
	if !ok {
		return def
	}
	want := "an absolute URL"
	if len(schemes) > 0 {
		want += " starting with " + strings.Join(schemes, ":// or ") + "://"
	}
	u, err := url.Parse(v)
	switch {
	case err != nil:
		r.Problem(key, "is not %s", want)
	case u.Host == "" || len(schemes) > 0 && !slices.Contains(schemes, u.Scheme):
		r.bad(key, u.Redacted(), want)
	default:
		return v
	}
	return def
}

// Listen returns key as a host:port to listen on, or def. An empty host means
// every interface.
func Listen(r *Reader, key, def string) string {
	v, ok := r.lookup(key, def)
	if !ok {
		return def
	}
	if _, err := hostOf(v); err != nil {
		r.bad(key, v, "host:port or :port")
		return def
	}
	return v
}

// ListenPort is Listen where PORT, if set, wins and means every interface, as
// platforms that run containers expect.
func ListenPort(r *Reader, key, def string) string {
	addr := Listen(r, key, def)
	port, ok := r.lookup("PORT", "")
	if !ok {
		return addr
	}
	if _, err := hostOf(":" + port); err != nil {
		r.bad("PORT", port, "a port number")
		return addr
	}
	return ":" + port
}

func hostOf(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return host, err
}

func bounds[T int | time.Duration](low, high, most T) string {
	if high == most {
		return fmt.Sprintf("from %v", low)
	}
	return fmt.Sprintf("from %v to %v", low, high)
}
