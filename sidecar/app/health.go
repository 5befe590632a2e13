package app

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// healthPatience is for one question: /readyz answers within 2 s.
const healthPatience = 4 * time.Second

// Health is what a running sidecar says of itself.
type Health struct {
	URL    string          `json:"url"`
	Well   bool            `json:"well"`
	Phase  string          `json:"phase,omitempty"`
	Reason string          `json:"reason,omitempty"` // why it is not well, or not ready
	Answer json.RawMessage `json:"answer,omitempty"` // what the sidecar has said, where it answers
}

// AskHealth asks the sidecar that listens at address (host:port, an empty host being every one) whether it
// lives, or, with ready, whether it is ready for work. It never fails: what goes wrong is the Reason.
func AskHealth(ctx context.Context, address string, ready bool) Health {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return Health{URL: address, Reason: fmt.Sprintf("%q is no host:port", address)}
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // whoever listens everywhere, listens here
	}
	h := Health{URL: "http://" + net.JoinHostPort(host, port) + "/healthz"}
	if ready {
		h.URL = strings.TrimSuffix(h.URL, "healthz") + "readyz"
	}
	ctx, cancel := context.WithTimeout(ctx, healthPatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL, nil)
	if err != nil {
		h.Reason = err.Error()
		return h
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		h.Reason = "no sidecar answers: " + err.Error()
		return h
	}
	defer response.Body.Close()
	var said struct{ Phase, Reason string }
	if err := json.NewDecoder(response.Body).Decode(&h.Answer); err != nil {
		h.Reason = "what answers is no sidecar: " + response.Status
		return h
	}
	_ = json.Unmarshal(h.Answer, &said) // what it does not say stays empty
	h.Well, h.Phase, h.Reason = response.StatusCode == http.StatusOK, said.Phase, said.Reason
	if !h.Well && h.Reason == "" {
		h.Reason = response.Status
	}
	return h
}
