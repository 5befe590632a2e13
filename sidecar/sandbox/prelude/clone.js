// structuredClone: https://html.spec.whatwg.org/multipage/structured-data.html
(function (native) {
  "use strict";

  const errors = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };
  const arrays = [
    Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, Float32Array,
    Float64Array, BigInt64Array, BigUint64Array,
  ];

  function refuse(what) {
    const { DOMException } = native.use("events");
    throw new DOMException(`${what} could not be cloned.`, "DataCloneError");
  }

  // Of these, which hold nothing that can be read, the brand is told by a method that refuses all others.
  const brands = [(v) => WeakMap.prototype.has.call(v, {}), (v) => WeakSet.prototype.has.call(v, {}),
    (v) => Symbol.prototype.valueOf.call(v)];

  function isOpaque(value) {
    return brands.some((test) => {
      try {
        test(value);
        return true;
      } catch {
        return false;
      }
    });
  }

  // Primitive wrappers tell their kind by the method that takes them.
  function unwrap(value, kind) {
    switch (kind) {
      case "Boolean": return Object(Boolean.prototype.valueOf.call(value));
      case "Number": return Object(Number.prototype.valueOf.call(value));
      case "String": return Object(String.prototype.valueOf.call(value));
      case "BigInt": return Object(BigInt.prototype.valueOf.call(value));
      case "Date": return new Date(Date.prototype.getTime.call(value));
      case "RegExp": return new RegExp(value.source, value.flags);
      case "ArrayBuffer": return ArrayBuffer.prototype.slice.call(value, 0);
    }
    return undefined;
  }

  function cloneError(value, clone) {
    const name = String(value.name);
    const copy = Object.create((Object.hasOwn(errors, name) ? errors[name] : Error).prototype);
    const made = Object.setPrototypeOf(new Error(), Object.getPrototypeOf(copy));
    for (const key of ["message", "stack", "cause"]) {
      const own = Object.getOwnPropertyDescriptor(value, key);
      if (own === undefined || (!("value" in own) && key !== "stack")) continue;
      const copied = key === "cause" ? clone(own.value) : String(value[key]);
      Object.defineProperty(made, key, { value: copied, writable: true, configurable: true, enumerable: false });
    }
    return made;
  }

  function cloneView(value, clone) {
    if (value instanceof DataView) return new DataView(clone(value.buffer), value.byteOffset, value.byteLength);
    const type = arrays.find((candidate) => value instanceof candidate);
    return new type(clone(value.buffer), value.byteOffset, value.length);
  }

  function structuredClone(value, options = {}) {
    if (arguments.length === 0) throw new TypeError("structuredClone needs a value");
    if (options?.transfer?.length > 0) refuse("A value that is to be transferred");
    const seen = new Map();

    function clone(value) {
      if (typeof value === "symbol") refuse("A symbol");
      if (typeof value === "function") refuse(`The function ${value.name || "(anonymous)"}`);
      if (typeof value !== "object" || value === null) return value;
      const known = seen.get(value);
      if (known !== undefined) return known;
      const kind = native.kind(value);
      let copy = unwrap(value, kind);
      if (copy === undefined && ArrayBuffer.isView(value)) copy = cloneView(value, clone);
      if (copy === undefined && kind === "Error") copy = cloneError(value, clone);
      if (copy !== undefined) {
        seen.set(value, copy);
        return copy;
      }
      if (kind === "Map") return cloneMap(value);
      if (kind === "Set") return cloneSet(value);
      if (!["Array", "Object", "Arguments"].includes(kind) || isOpaque(value)) refuse(`A value of the kind ${kind}`);
      return cloneMembers(value, kind);
    }

    function cloneMap(value) {
      const copy = new Map();
      seen.set(value, copy);
      for (const [key, member] of Array.from(Map.prototype.entries.call(value))) copy.set(clone(key), clone(member));
      return copy;
    }

    function cloneSet(value) {
      const copy = new Set();
      seen.set(value, copy);
      for (const member of Array.from(Set.prototype.values.call(value))) copy.add(clone(member));
      return copy;
    }

    function cloneMembers(value, kind) {
      const copy = kind === "Array" ? new Array(value.length) : {};
      seen.set(value, copy);
      for (const key of Object.keys(value)) {
        if (!Object.hasOwn(value, key)) continue;
        const made = { value: clone(value[key]), writable: true, enumerable: true, configurable: true };
        Object.defineProperty(copy, key, made);
      }
      return copy;
    }

    return clone(value);
  }

  return { structuredClone };
})
