// Package httpapi serves the sidecar's HTTP side. So far that is the health of the process; the REST
// API, the event stream and the console come later.
package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Status is what /readyz answers.
type Status struct {
	Ready   bool   `json:"ready"`
	Phase   string `json:"phase"`            // connecting, standby, catching up, streaming
	Reason  string `json:"reason,omitempty"` // why it is not ready
	Version string `json:"version"`
	// Pending says that it may become ready by itself: it is still connecting, catching up or looking.
	Pending bool `json:"-"`
	// Manifest is the version in force; nil where none is, or it is not known yet.
	Manifest *Manifest `json:"manifest,omitempty"`
	// Degraded names kernels that cannot boot, and why. No request needs them, so it may be ready all the same.
	Degraded map[string]string `json:"degraded,omitempty"`
	// Sandbox names each wall of the kernel around strangers' code: "stands", or why it does not.
	Sandbox map[string]string `json:"sandbox,omitempty"`
}

// Manifest is a version of the manifest span.
type Manifest struct {
	Seq int `json:"seq"`
	// Signed says that a key that leads to the pinned root has signed it.
	Signed bool `json:"signed"`
}

// New returns the handler. ready is asked at each /readyz and must answer within its context, 2 s.
//
//	GET /healthz  200 while the process lives
//	GET /readyz   200 when the slot streams, the walls stand and the kernels that run requests verify, else 503
//	GET /metrics  what metrics answers: the text format of Prometheus. nil: there is none
func New(ready func(ctx context.Context) Status, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	if metrics != nil {
		mux.Handle("GET /metrics", metrics)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]bool{"alive": true})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		status := ready(ctx)
		code := http.StatusOK
		if !status.Ready {
			code = http.StatusServiceUnavailable
		}
		answer(w, code, status)
	})
	return mux
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	// The client may be gone: there is nobody to tell.
	_ = json.NewEncoder(w).Encode(body)
}
