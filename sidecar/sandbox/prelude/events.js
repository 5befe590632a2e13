// DOMException, Event, EventTarget, AbortSignal, AbortController: https://dom.spec.whatwg.org, as far as
// code without a document needs them.
(function (native) {
  "use strict";

  const legacy = {
    IndexSizeError: 1, NotFoundError: 8, NotSupportedError: 9, InvalidStateError: 11, SyntaxError: 12,
    InvalidAccessError: 15, TimeoutError: 23, InvalidCharacterError: 5, DataCloneError: 25, AbortError: 20,
    QuotaExceededError: 22,
  };

  class DOMException extends Error {
    #name;
    constructor(message = "", options = "Error") {
      super(String(message));
      const isObject = typeof options === "object" && options !== null;
      this.#name = String(isObject ? options.name ?? "Error" : options);
      if (isObject && "cause" in options) {
        Object.defineProperty(this, "cause", { value: options.cause, writable: true, configurable: true });
      }
    }
    get name() { return this.#name; }
    get code() { return legacy[this.#name] ?? 0; }
  }

  class Event {
    #type; #cancelable; #prevented = false; #stopped = false;
    target = null;
    currentTarget = null;
    constructor(type, options = {}) {
      if (arguments.length === 0) throw new TypeError("Event needs a type");
      this.#type = String(type);
      this.#cancelable = Boolean(options.cancelable);
      this.timeStamp = native.now();
    }
    get type() { return this.#type; }
    get cancelable() { return this.#cancelable; }
    get defaultPrevented() { return this.#prevented; }
    preventDefault() { if (this.#cancelable) this.#prevented = true; }
    stopImmediatePropagation() { this.#stopped = true; }
    stopPropagation() {}
    static isStopped(event) { return event.#stopped; }
  }
  const isStopped = Event.isStopped;
  delete Event.isStopped;

  class EventTarget {
    #listeners = [];
    addEventListener(type, callback, options = {}) {
      if (callback === null || callback === undefined) return;
      const { once = false, signal } = typeof options === "object" && options !== null ? options : {};
      if (signal !== undefined && signal.aborted) return;
      const name = String(type);
      if (this.#listeners.some((l) => l.name === name && l.callback === callback)) return;
      this.#listeners.push({ name, callback, once: Boolean(once) });
      if (signal !== undefined) {
        signal.addEventListener("abort", () => this.removeEventListener(name, callback), { once: true });
      }
    }
    removeEventListener(type, callback) {
      this.#listeners = this.#listeners.filter((l) => l.name !== String(type) || l.callback !== callback);
    }
    dispatchEvent(event) {
      if (!(event instanceof Event)) throw new TypeError("dispatchEvent needs an Event");
      event.target = event.currentTarget = this;
      for (const l of this.#listeners.slice()) {
        if (l.name !== event.type || !this.#listeners.includes(l)) continue;
        if (l.once) this.#listeners = this.#listeners.filter((other) => other !== l);
        if (typeof l.callback === "function") l.callback.call(this, event);
        else l.callback.handleEvent(event);
        if (isStopped(event)) break;
      }
      event.currentTarget = null;
      return !event.defaultPrevented;
    }
  }

  const key = {}; // only this file makes signals
  let abort; // (signal, reason)

  class AbortSignal extends EventTarget {
    #aborted = false; #reason = undefined; #handler = null;
    constructor(given) {
      if (given !== key) throw new TypeError("Illegal constructor");
      super();
    }
    static {
      abort = (signal, reason = new DOMException("This operation was aborted", "AbortError")) => {
        if (signal.#aborted) return;
        signal.#aborted = true;
        signal.#reason = reason;
        signal.dispatchEvent(new Event("abort"));
      };
    }
    get aborted() { return this.#aborted; }
    get reason() { return this.#reason; }
    get onabort() { return this.#handler; }
    set onabort(handler) {
      if (this.#handler !== null) this.removeEventListener("abort", this.#handler);
      this.#handler = typeof handler === "function" ? handler : null;
      if (this.#handler !== null) this.addEventListener("abort", this.#handler);
    }
    throwIfAborted() { if (this.#aborted) throw this.#reason; }
    static abort(reason) {
      const signal = new AbortSignal(key);
      abort(signal, reason);
      return signal;
    }
    static timeout(ms) {
      const signal = new AbortSignal(key);
      native.setTimeout(() => abort(signal, new DOMException("The operation timed out", "TimeoutError")), ms);
      return signal;
    }
    static any(signals) {
      const both = new AbortSignal(key);
      for (const signal of signals) {
        if (signal.aborted) abort(both, signal.reason);
        else signal.addEventListener("abort", () => abort(both, signal.reason), { once: true });
      }
      return both;
    }
  }

  class AbortController {
    #signal = new AbortSignal(key);
    get signal() { return this.#signal; }
    abort(reason) { abort(this.#signal, reason); }
  }

  return { DOMException, Event, EventTarget, AbortSignal, AbortController };
})
