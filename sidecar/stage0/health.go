package stage0

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Verify loads the kernels that make requests run and reports what keeps this sidecar from working: no
// manifest in force, a key that signs in vain, one of those kernels that Stage-0 would refuse. Degraded has
// the others.
func (s *Stage0) Verify(ctx context.Context) error {
	manifest := s.manifest.Load()
	if manifest == nil {
		return errors.New("no manifest is in force")
	}
	if manifest.refusal != nil {
		return manifest.refusal
	}
	var faults []error
	if err := s.CheckSigner(); err != nil {
		faults = append(faults, err)
	}
	for name := range manifest.Kernels {
		if !manifest.needs(name) {
			continue
		}
		if _, err := s.kernel(ctx, manifest, name); err != nil {
			faults = append(faults, fmt.Errorf("kernel %s: %w", name, err))
		}
	}
	return errors.Join(faults...)
}

// CheckSigner reports that what this sidecar appends is not signed as the manifest requires, or in vain.
func (s *Stage0) CheckSigner() error {
	signer, manifest := s.config.Signer, s.manifest.Load()
	switch {
	case signer.Signs() && s.config.TrustRoot != "":
		if err := s.trust.Load().Vouch(signer.Public(), sign.PurposeSpan); err != nil {
			return fmt.Errorf("the sidecar signs in vain: %w; configure another key", err)
		}
	case !signer.Signs() && manifest != nil && manifest.Features.SignaturesRequired.For("execution"):
		return errors.New("the manifest requires signatures and this sidecar has no key: set " +
			"LOGLINE_SIGNING_KEY_FILE (docs/keys.md)")
	}
	return nil
}

// Degraded names the kernels that cannot boot though the manifest names them, and why: those alone that
// no request needs, so that one of them does not count as the whole sidecar's fault.
func (s *Stage0) Degraded(ctx context.Context) map[string]string {
	manifest := s.manifest.Load()
	if manifest == nil || manifest.refusal != nil {
		return nil
	}
	degraded := map[string]string{}
	for name := range manifest.Kernels {
		if manifest.needs(name) {
			continue
		}
		if _, err := s.kernel(ctx, manifest, name); err != nil {
			degraded[name] = err.Error()
		}
	}
	return degraded
}

// InForce is the manifest in force; ok is false where there is none, or it does not hold any more.
func (s *Stage0) InForce() (key span.Key, isSigned, ok bool) {
	manifest := s.manifest.Load()
	if manifest == nil || manifest.refusal != nil {
		return span.Key{}, false, false
	}
	return manifest.key, manifest.isSigned, true
}

// needs reports whether runs of users depend on the kernel: run_code, and of the others that the system
// ships those that a trigger starts. A deployment's own kernels, and provider_exec, are not among them.
func (g *governed) needs(kernel string) bool {
	switch kernel {
	case "run_code":
		return true
	case "observer_bot", "request_worker", "policy_agent":
		return slices.ContainsFunc(g.Triggers, func(t span.Trigger) bool { return t.Kernel == kernel })
	}
	return false
}
