// TextEncoder, TextDecoder: https://encoding.spec.whatwg.org, UTF-8 alone. atob, btoa: forgiving base64.
(function (native) {
  "use strict";

  const labels = ["unicode-1-1-utf-8", "unicode11utf8", "unicode20utf8", "utf-8", "utf8", "x-unicode20utf8"];

  function bytesOf(input) {
    if (input === undefined) return new Uint8Array(0);
    if (ArrayBuffer.isView(input)) return new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
    if (native.kind(input) === "ArrayBuffer") return new Uint8Array(input);
    throw new TypeError("decode needs an ArrayBuffer or a view of one");
  }

  class TextEncoder {
    get encoding() { return "utf-8"; }
    encode(input = "") { return native.encode(String(input)); }
    encodeInto(source, destination) {
      if (!(destination instanceof Uint8Array)) throw new TypeError("encodeInto needs a Uint8Array");
      let read = 0;
      let written = 0;
      for (const letter of String(source)) {
        const bytes = native.encode(letter);
        if (written + bytes.length > destination.length) break;
        destination.set(bytes, written);
        written += bytes.length;
        read += letter.length;
      }
      return { read, written };
    }
  }

  class TextDecoder {
    #fatal; #ignoreBOM; #rest = new Uint8Array(0); #sawStart = false; #isStreaming = false;
    constructor(label = "utf-8", options = {}) {
      if (!labels.includes(String(label).trim().toLowerCase())) {
        throw new RangeError(`TextDecoder knows utf-8 alone, not "${label}"`);
      }
      this.#fatal = Boolean(options?.fatal);
      this.#ignoreBOM = Boolean(options?.ignoreBOM);
    }
    get encoding() { return "utf-8"; }
    get fatal() { return this.#fatal; }
    get ignoreBOM() { return this.#ignoreBOM; }
    decode(input, options = {}) {
      const stream = Boolean(options?.stream);
      if (!this.#isStreaming) {
        this.#rest = new Uint8Array(0);
        this.#sawStart = false;
      }
      this.#isStreaming = stream;
      const given = bytesOf(input);
      const bytes = new Uint8Array(this.#rest.length + given.length);
      bytes.set(this.#rest);
      bytes.set(given, this.#rest.length);
      let text;
      try {
        [text, this.#rest] = native.decode(bytes, this.#fatal, stream);
      } catch (error) {
        this.#isStreaming = false;
        throw error;
      }
      if (text !== "" && !this.#sawStart) {
        this.#sawStart = true;
        if (!this.#ignoreBOM && text.charCodeAt(0) === 0xfeff) text = text.slice(1);
      }
      return text;
    }
  }

  function invalid(message) {
    const { DOMException } = native.use("events");
    throw new DOMException(message, "InvalidCharacterError");
  }

  function btoa(data) {
    if (arguments.length === 0) throw new TypeError("btoa needs a text");
    const coded = native.btoa(String(data));
    if (coded === undefined) invalid("The text to encode holds characters outside of Latin1.");
    return coded;
  }

  function atob(data) {
    if (arguments.length === 0) throw new TypeError("atob needs a text");
    const text = native.atob(String(data));
    if (text === undefined) invalid("The text to decode is not base64.");
    return text;
  }

  return { TextEncoder, TextDecoder, btoa, atob };
})
