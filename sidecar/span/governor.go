package span

import (
	"maps"
	"slices"
	"strings"
)

// pins reads {"<kernel>": <seq>}.
func (d *document) pins(o object, m *Manifest) {
	o.each("pins", func(o object) {
		for _, name := range slices.Sorted(maps.Keys(o.members)) {
			if _, known := m.Kernels[name]; !known {
				o.known[name] = true
				d.fault(o.pathOf(clip(name)), "is no kernel of this manifest", "name a key of kernels")
				continue
			}
			seq := 0
			o.integer(name, &seq, 0, 1<<31-1)
			m.Pins[name] = seq
		}
	})
}

// timelocks reads {"kernel:<name>" or "manifest": {"activate_after_hours": <hours>}}.
func (d *document) timelocks(o object, m *Manifest) {
	o.each("timelocks", func(o object) {
		for _, subject := range slices.Sorted(maps.Keys(o.members)) {
			name := subject
			if subject != "manifest" {
				var known bool
				if name, known = d.kernelSubject(o, m, subject); !known {
					continue
				}
			}
			o.each(subject, func(o object) {
				hours := 0
				o.integer("activate_after_hours", &hours, 0, TimelockHoursMax)
				m.Timelocks[name] = hours
			})
		}
	})
}

// rateLimits reads {"kernel:<name>": {"per_tenant_per_min": <boots>}}. Kernels that nothing counts have none:
// one boot of theirs is for many spans, and for many tenants.
func (d *document) rateLimits(o object, m *Manifest) {
	o.each("rate_limits", func(o object) {
		for _, subject := range slices.Sorted(maps.Keys(o.members)) {
			name, known := d.kernelSubject(o, m, subject)
			if !known {
				continue
			}
			if isForMany(m.Kernels[name]) || m.isTriggered(name) && !m.Allows(name, ActionReserve, "") {
				o.known[subject] = true
				d.fault(o.pathOf(subject), "is a kernel that the engine starts, for many tenants at once",
					"limit run_code, or a kernel that requests or other kernels call")
				continue
			}
			o.each(subject, func(o object) {
				boots := 0
				o.integer("per_tenant_per_min", &boots, 1, 1e6)
				m.RateLimits[name] = boots
			})
		}
	})
}

// kernelSubject returns the name in kernel:<name>, and false after a fault.
func (d *document) kernelSubject(o object, m *Manifest, subject string) (string, bool) {
	name, isKernel := strings.CutPrefix(subject, "kernel:")
	if _, known := m.Kernels[name]; isKernel && known && name != "manifest" {
		return name, true
	}
	o.known[subject] = true
	d.fault(o.pathOf(clip(subject)), "is no kernel of this manifest", "write kernel:<a key of kernels>")
	return "", false
}

func (m *Manifest) isTriggered(kernel string) bool {
	return slices.ContainsFunc(m.Triggers, func(t Trigger) bool { return t.Kernel == kernel })
}
