package span

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// document collects every fault of a manifest or condition, so that its author mends all at once.
// Keys count in their exact spelling; encoding/json alone would take them in any case.
type document struct{ faults []error }

func (d *document) fault(path, cause, mend string) {
	d.faults = append(d.faults, badSpan(path+": "+cause, mend))
}

// object is one JSON object that is being read; members that were asked for are known.
type object struct {
	document *document
	path     string
	members  map[string]json.RawMessage
	known    map[string]bool
}

func (d *document) object(path string, raw json.RawMessage) object {
	o := object{document: d, path: path, known: map[string]bool{}}
	if err := json.Unmarshal(raw, &o.members); err != nil || o.members == nil {
		d.fault(o.name(), "want an object, found "+kindOf(raw), "write {…}")
	}
	return o
}

func (o object) name() string {
	if o.path == "" {
		return "manifest"
	}
	return o.path
}

func (o object) pathOf(key string) string {
	if o.path == "" {
		return key
	}
	return o.path + "." + key
}

// take returns the member key, and false where it is absent.
func (o object) take(key string) (json.RawMessage, bool) {
	o.known[key] = true
	raw, found := o.members[key]
	return raw, found
}

// retired says what took the place of keys that older manifests had.
var retired = map[string]string{
	"override_pubkey_hex": "append a key span with the purpose override",
	"previous_pubkeys":    "append a key span for each key, revoked where it is old",
	"event_time":          "remove it: the ledger's guard holds at to 30 days back and 5 minutes ahead",
	"slow_ms_threshold":   "write policy.slow_ms",
	"app_ids":             "remove it: apps are not governed by this document",
}

func (o object) refuseUnknown() {
	for _, key := range slices.Sorted(maps.Keys(o.members)) {
		if o.known[key] {
			continue
		}
		mend := retired[key]
		if mend == "" {
			mend = "remove it, or use one of " + strings.Join(slices.Sorted(maps.Keys(o.known)), ", ")
		}
		o.document.fault(o.pathOf(clip(key)), "the key is unknown", mend)
	}
}

// each reads the member key, if there is one, as an object whose keys read asks for.
func (o object) each(key string, read func(object)) {
	raw, found := o.take(key)
	if !found {
		return
	}
	inner := o.document.object(o.pathOf(key), raw)
	read(inner)
	inner.refuseUnknown()
}

func (o object) text(key string, target *string) {
	raw, found := o.take(key)
	if !found {
		return
	}
	text, ok := textOf(raw)
	if !ok || len(text) > 1000 {
		o.document.fault(o.pathOf(key), "want a short text, found "+kindOf(raw), `write it as "…"`)
		return
	}
	*target = text
}

func (o object) boolean(key string, target *bool) {
	raw, found := o.take(key)
	if !found {
		return
	}
	if kindOf(raw) != "a boolean" {
		o.document.fault(o.pathOf(key), "want true or false, found "+kindOf(raw), "write true or false")
		return
	}
	*target = string(raw) == "true"
}

func (o object) integer(key string, target *int, least, most int) {
	raw, found := o.take(key)
	if !found {
		return
	}
	n, err := strconv.Atoi(string(raw))
	if err == nil && least <= n && n <= most {
		*target = n
		return
	}
	o.document.fault(o.pathOf(key), "found "+clip(string(raw)),
		fmt.Sprintf("write a whole number from %d to %d", least, most))
}

// list returns the elements of an array, or of one value where single allows that.
func (d *document) list(path string, raw json.RawMessage, single bool) []json.RawMessage {
	var elements []json.RawMessage
	if kindOf(raw) == "a list" {
		if err := json.Unmarshal(raw, &elements); err != nil {
			d.fault(path, "want a list: "+err.Error(), "write [ … ]")
		}
		return elements
	}
	if single {
		return []json.RawMessage{raw}
	}
	d.fault(path, "want a list, found "+kindOf(raw), "write [ … ]")
	return nil
}

func (d *document) id(path string, raw json.RawMessage) (ID, bool) {
	text, ok := textOf(raw)
	id, err := ParseID(text)
	if !ok || err != nil || id.IsZero() {
		d.fault(path, "want a UUID, found "+clip(string(raw)), "write the 36 character form of the span's id")
		return ID{}, false
	}
	return id, true
}

func (d *document) kernels(o object, m *Manifest) {
	if raw, found := o.take("kernels"); found {
		inner := d.object(o.pathOf("kernels"), raw)
		m.Kernels = make(map[string]ID, len(inner.members))
		names := map[ID]string{}
		for _, name := range slices.Sorted(maps.Keys(inner.members)) {
			path := inner.pathOf(clip(name))
			if !isTypeName(name) {
				d.fault(path, "the name is malformed", "use lower case letters, digits and _")
			}
			id, ok := d.id(path, inner.members[name])
			if other := names[id]; ok && other != "" {
				d.fault(path, "has the id of "+other, "give each kernel its own id")
			}
			names[id], m.Kernels[name] = name, id
		}
	}
	raw, found := o.take("allowed_boot_ids")
	if !found {
		return
	}
	m.AllowedBootIDs = nil
	for i, element := range d.list(o.pathOf("allowed_boot_ids"), raw, false) {
		if id, ok := d.id(fmt.Sprintf("allowed_boot_ids[%d]", i), element); ok {
			m.AllowedBootIDs = append(m.AllowedBootIDs, id)
		}
	}
}

func (d *document) signaturesRequired(o object, target *SignaturesRequired) {
	const key = "signatures_required"
	raw, found := o.take(key)
	switch {
	case !found:
	case kindOf(raw) == "a boolean":
		target.All = string(raw) == "true"
	case kindOf(raw) == "a list":
		for i, element := range d.list(o.pathOf(key), raw, false) {
			entityType, ok := textOf(element)
			if !ok || !isTypeName(entityType) {
				d.fault(fmt.Sprintf("%s[%d]", o.pathOf(key), i), clip(string(element))+" is no entity type",
					`write it as "function"`)
				continue
			}
			if !slices.Contains(SignableTypes, entityType) {
				d.fault(fmt.Sprintf("%s[%d]", o.pathOf(key), i), "nobody looks at the signature of a "+entityType,
					"name some of "+strings.Join(SignableTypes, ", "))
				continue
			}
			target.Types = append(target.Types, entityType)
		}
	default:
		d.fault(o.pathOf(key), "found "+kindOf(raw), "write true, false or a list of entity types")
	}
}

func (d *document) auditLog(o object, target *AuditLog) {
	raw, found := o.take("audit_log")
	if !found {
		return
	}
	values := map[string]AuditLog{"false": AuditOff, "true": AuditOn, `"full"`: AuditFull}
	value, ok := values[string(raw)]
	if !ok {
		d.fault(o.pathOf("audit_log"), "found "+clip(string(raw)), `write true, false or "full"`)
		return
	}
	*target = value
}

func (d *document) triggers(o object, m *Manifest) {
	raw, found := o.take("triggers")
	if !found {
		return
	}
	for i, element := range d.list(o.pathOf("triggers"), raw, false) {
		path := fmt.Sprintf("triggers[%d]", i)
		inner := d.object(path, element)
		var trigger Trigger
		inner.text("kernel", &trigger.Kernel)
		if _, known := m.Kernels[trigger.Kernel]; !known {
			d.fault(path+".kernel", fmt.Sprintf("%.60q is no kernel of this manifest", trigger.Kernel),
				"name a key of kernels")
		}
		before := len(d.faults)
		if when, stated := inner.take("when"); stated {
			trigger.When = d.when(path+".when", when)
		}
		if trigger.When.IsZero() && len(d.faults) == before {
			d.fault(path+".when", "states no condition", "name a column: a trigger for every row would never rest")
		}
		inner.refuseUnknown()
		m.Triggers = append(m.Triggers, trigger)
	}
}

func (d *document) grants(o object, m *Manifest) {
	raw, found := o.take("grants")
	if !found {
		return
	}
	inner := d.object(o.pathOf("grants"), raw)
	for _, holder := range slices.Sorted(maps.Keys(inner.members)) {
		path := inner.pathOf(clip(holder))
		name, forms := holder, codeGrantForms
		if isIdentity(holder) {
			forms = userGrantForms
		} else if _, known := m.Kernels[holder]; !known {
			id, err := ParseID(holder)
			if err != nil {
				d.fault(path, "is neither a kernel of this manifest, nor a function id, nor a user or tenant",
					"name a key of kernels, a UUID, user:<user id> or tenant:<tenant id>")
				continue
			}
			name = id.String()
		}
		for i, element := range d.list(path, inner.members[holder], false) {
			text, _ := textOf(element)
			grant, err := ParseGrant(text)
			if err == nil && (grant.Action == ActionPublish) != isIdentity(holder) {
				err = fmt.Errorf("%.60q is no right of this holder", text)
			}
			if err != nil {
				d.fault(fmt.Sprintf("%s[%d]", path, i), err.Error(), "write "+forms)
				continue
			}
			m.Grants[name] = append(m.Grants[name], grant)
		}
	}
}

func (d *document) callable(o object, m *Manifest) {
	raw, found := o.take("callable")
	if !found {
		return
	}
	for i, element := range d.list(o.pathOf("callable"), raw, false) {
		name, _ := textOf(element)
		id, known := m.Kernels[name]
		switch path := fmt.Sprintf("callable[%d]", i); {
		case !known:
			d.fault(path, clip(string(element))+" is no kernel of this manifest", "name a key of kernels")
		case id == RunCodeID || isForMany(id):
			d.fault(path, name+" is for the engine to start, not for requests",
				"name provider_exec, or a kernel of your own that is made for requests")
		default:
			m.Callable = append(m.Callable, name)
		}
	}
}

// isForMany reports whether a kernel is booted by the engine alone, for several tenants' spans at once.
func isForMany(id ID) bool {
	return slices.Contains([]ID{ObserverBotID, RequestWorkerID, PolicyAgentID}, id)
}

func (d *document) when(path string, raw json.RawMessage) When {
	o := d.object(path, raw)
	var when When
	for _, key := range slices.Sorted(maps.Keys(o.members)) {
		column, negated := strings.CutPrefix(key, "not_")
		if !slices.Contains(PublishedColumns, column) {
			d.fault(o.pathOf(clip(key)), "is no published column",
				"use one of "+strings.Join(PublishedColumns, ", ")+", or not_ before it")
			continue
		}
		c := condition{column: column, negated: negated}
		values := d.list(o.pathOf(key), o.members[key], true)
		if len(values) == 0 {
			d.fault(o.pathOf(key), "the list is empty", "name a value, or remove the key")
		}
		for _, value := range values {
			if problem := c.add(value); problem != "" {
				d.fault(o.pathOf(key), problem, "write one value or a list of the column's type")
			}
		}
		when.conditions = append(when.conditions, c)
	}
	return when
}

// add reads one value into c and says what is wrong with it, or "".
func (c *condition) add(raw json.RawMessage) string {
	text, isText := textOf(raw)
	wrong := clip(string(raw)) + " is not of the type of " + c.column
	switch c.column {
	case "status", "trace_id", "curr_hash", "prev_hash", "parent_id", "scheduled_at":
		if string(raw) == "null" {
			c.null = true
			return ""
		}
	}
	switch c.column {
	case "id", "parent_id":
		id, err := ParseID(text)
		if err != nil {
			return wrong
		}
		c.ids = append(c.ids, id)
	case "seq", "xact":
		if !isText {
			text = string(raw)
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return wrong
		}
		c.numbers = append(c.numbers, n)
	case "is_deleted":
		if kindOf(raw) != "a boolean" {
			return wrong
		}
		c.flags = append(c.flags, string(raw) == "true")
	case "at", "accepted_at", "scheduled_at":
		at, err := ParseTime(text)
		if err != nil {
			return wrong
		}
		c.times = append(c.times, at)
	default:
		if !isText {
			return wrong
		}
		if text == engineTypesWord && c.column == "entity_type" {
			c.texts = append(c.texts, EngineTypes...)
			return ""
		}
		c.texts = append(c.texts, text)
	}
	return ""
}

func textOf(raw json.RawMessage) (string, bool) {
	var text *string
	if err := json.Unmarshal(raw, &text); err != nil || text == nil {
		return "", false
	}
	return *text, true
}

// kindOf names the kind of a JSON value that has no space around it.
func kindOf(raw json.RawMessage) string {
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a text"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

// clip shortens a stranger's text for a message.
func clip(text string) string { return fmt.Sprintf("%.60s", text) }
