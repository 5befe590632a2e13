package sandbox

import (
	"github.com/dop251/goja"
)

// deferred is the answer to a deferred call as the script sees it: an object whose members arrive when
// the script first reads one.
type deferred struct {
	task   *task
	id     uint32
	name   string
	at     []goja.StackFrame
	reply  *reply       // once it was taken from the inbox
	object *goja.Object // once the script has looked
}

var _ goja.DynamicObject = (*deferred)(nil)

func (t *task) callDeferred(name string, args []byte) goja.Value {
	id := t.ask(name, args)
	if id == 0 {
		return goja.Undefined() // the interrupt flag is up: no script runs any more
	}
	d := &deferred{task: t, id: id, name: name, at: t.vm.CaptureCallStack(4, nil)}
	if t.deferred == nil {
		t.deferred = map[uint32]*deferred{}
	}
	t.deferred[id] = d
	return t.vm.NewDynamicObject(d)
}

// look waits for the answer. A refusal is thrown into the script.
func (d *deferred) look() *goja.Object {
	t := d.task
	if d.object != nil {
		return d.object
	}
	for d.reply == nil {
		if t.collect(t.inbox.take()); d.reply == nil && !t.parkFor(nil, d.id) {
			return t.vm.NewObject() // stopped: no script runs any more
		}
	}
	t.arrive(d.reply)
	if d.reply.failed != nil {
		d.object = t.vm.NewObject() // seen: the script may catch it
		panic(t.hostThrown(d.reply.failed, d.at))
	}
	v, err := parseJSON(t.vm, string(d.reply.value))
	if err != nil {
		panic(t.hostThrown(&HostError{Code: CodeCrash, Message: d.name + ": " + err.Error()}, d.at))
	}
	d.object = t.vm.ToValue(v).ToObject(t.vm)
	return d.object
}

// Get implements goja.DynamicObject, as do the others.
func (d *deferred) Get(key string) goja.Value { return d.look().Get(key) }

// Set sets a member of the script's own copy.
func (d *deferred) Set(key string, value goja.Value) bool { return d.look().Set(key, value) == nil }

// Has reports whether the answer has the member.
func (d *deferred) Has(key string) bool { return d.look().Get(key) != nil }

// Delete removes a member of the script's own copy.
func (d *deferred) Delete(key string) bool { return d.look().Delete(key) == nil }

// Keys lists the members.
func (d *deferred) Keys() []string { return d.look().Keys() }
