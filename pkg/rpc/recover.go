package rpc

import (
	"errors"
	"log/slog"
	"net/http"
)

// RecoverHTTP keeps a panic in one request from being more than that request's
// failure: it is logged with its stack, and answered as an internal error if
// nothing was written yet.
func RecoverHTTP(log *slog.Logger, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p) // how handlers cut a connection on purpose
			}
			WriteProblem(w, r, panicked(r.Context(), log, r.Method+" "+r.URL.Path, p))
		}()
		h.ServeHTTP(w, r)
	})
}
