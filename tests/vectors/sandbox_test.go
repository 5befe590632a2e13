package vectors_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/sandbox"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == sandbox.ChildArg {
		sandbox.Main()
	}
	os.Exit(m.Run())
}

// runInSandbox runs source with input, and decodes its output into target.
func runInSandbox(t *testing.T, source string, input, target any) {
	t.Helper()
	pool, err := sandbox.New(sandbox.Options{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	data, err := json.Marshal(map[string]any{"input": input})
	if err != nil {
		t.Fatal(err)
	}
	result := pool.RunCode(t.Context(), sandbox.Run{
		Program: sandbox.Program{Name: "function vectors@0", Source: source}, Data: data, Now: time.Unix(0, 0)})
	if result.Err != nil {
		t.Fatal(result.Err)
	}
	if err := json.Unmarshal(result.Output, target); err != nil {
		t.Fatal(err)
	}
}

// The function hashes what Go has written, verifies what Go has signed, and writes the canonical form of
// each span's JSON anew.
func TestCtxCryptoAgreesOnSpans(t *testing.T) {
	t.Parallel()
	var file canonicalFile
	read(t, "canonical.json", &file)
	var faults []string
	runInSandbox(t, `
		function jcs(v) {
			if (v === null || typeof v !== "object") return JSON.stringify(v);
			if (Array.isArray(v)) return "[" + v.map(jcs).join(",") + "]";
			return "{" + Object.keys(v).sort().map((k) => JSON.stringify(k) + ":" + jcs(v[k])).join(",") + "}";
		}
		const utf8 = (text) =>
			new Uint8Array([...unescape(encodeURIComponent(text))].map((c) => c.charCodeAt(0)));
		export default function main({ input, crypto }) {
			const faults = [];
			const want = (holds, what) => { if (!holds) faults.push(what); };
			const key = crypto.toU8(input.key.public);
			for (const { name, canonical, hash, signature } of input.spans) {
				const bytes = utf8(canonical);
				want(jcs(JSON.parse(canonical)) === canonical, name + ": canonical");
				want(crypto.hex(crypto.blake3(bytes)) === hash, name + ": hash");
				want(crypto.verify(crypto.toU8(signature), crypto.toU8(hash), key), name + ": signature");
				want(crypto.verify(signature, hash, input.key.public), name + ": signature in hex");
				want(!crypto.verify(signature, crypto.blake3(bytes.subarray(1)), key), name + ": another hash");
			}
			want(input.spans.length > 30, "only " + input.spans.length + " spans");
			return faults;
		}`, file, &faults)
	for _, fault := range faults {
		t.Errorf("in the sandbox: %s", fault)
	}
}

func TestCtxCryptoPassesThePublicVectors(t *testing.T) {
	t.Parallel()
	var hashes, proof struct{ Cases, Tests []map[string]any }
	var edges []map[string]any
	unpackJSON(t, "blake3.json.gz", &hashes)
	unpackJSON(t, "wycheproof_ed25519.json.gz", &proof)
	unpackJSON(t, "ed25519_edges.json.gz", &edges)
	for _, edge := range edges {
		var flags []string
		stated, _ := edge["Flags"].([]any) // null where none applies
		for _, flag := range stated {
			flags = append(flags, flag.(string))
		}
		edge["taken"], edge["M"] = isTaken(flags), hex.EncodeToString([]byte(edge["M"].(string)))
		delete(edge, "Flags")
	}
	var answer struct {
		Faults []string
		Count  int
	}
	runInSandbox(t, `
		export default function main({ input, crypto }) {
			const answer = { faults: [], count: 0 };
			const want = (holds, what) => { answer.count++; if (!holds) answer.faults.push(what); };
			for (const { input_len, hash } of input.hashes) {
				const bytes = Uint8Array.from({ length: input_len }, (_, i) => i % 251);
				want(crypto.hex(crypto.blake3(bytes)) === hash.slice(0, 64), "blake3 of " + input_len);
			}
			for (const { tcId, pk, msg, sig, result } of input.proof) {
				want(crypto.verify(sig, msg, pk) === (result === "valid"), "Wycheproof " + tcId);
			}
			input.edges.forEach(({ A, R, S, M, taken }, i) => {
				want(crypto.verify(R + S, M, A) === taken, "edge " + i);
			});
			return answer;
		}`, map[string]any{"hashes": hashes.Cases, "proof": proof.Tests, "edges": edges}, &answer)
	for _, fault := range answer.Faults {
		t.Errorf("in the sandbox: %s", fault)
	}
	if answer.Count != 22+151+768 {
		t.Errorf("%d results were checked", answer.Count)
	}
}

// The whole of ctx.crypto as docs/contract.md §5 has it, with what an author may do wrong.
func TestCtxCryptoForms(t *testing.T) {
	t.Parallel()
	answers := map[string]any{}
	runInSandbox(t, `
		export default function main({ crypto }) {
			const refused = (f) => { try { f(); return false; } catch (e) { return e instanceof TypeError; } };
			const bytes = new Uint8Array([9, 1, 2, 255, 9]);
			const ids = [crypto.randomUUID(), crypto.randomUUID()];
			return {
				"a view": crypto.hex(bytes.subarray(1, 4)),
				"a buffer": crypto.hex(bytes.buffer),
				"hex of nothing": crypto.hex(new Uint8Array(0)),
				"toU8": crypto.toU8("0A0b").join(),
				"toU8 is bytes": crypto.toU8("00") instanceof Uint8Array,
				"blake3 is bytes": crypto.blake3(bytes) instanceof Uint8Array && crypto.blake3(bytes).length,
				"the input stays": (crypto.blake3(bytes), bytes.join()),
				"a text": refused(() => crypto.blake3("text")),
				"nothing": refused(() => crypto.hex()),
				"odd hex": refused(() => crypto.toU8("abc")),
				"no hex": refused(() => crypto.toU8("zz")),
				"verify odd hex": refused(() => crypto.verify("abc", "00", "00")),
				"short": crypto.verify("00", "00", "00"),
				"version 4": ids.every((id) => /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab]/.test(id)),
				"length": ids[0].length,
				"distinct": ids[0] !== ids[1],
				"global": globalThis.crypto === crypto,
			};
		}`, nil, &answers)
	for what, want := range map[string]any{
		"a view": "0102ff", "a buffer": "090102ff09", "hex of nothing": "", "toU8": "10,11", "toU8 is bytes": true,
		"blake3 is bytes": 32.0, "the input stays": "9,1,2,255,9", "a text": true, "nothing": true, "odd hex": true,
		"no hex": true, "verify odd hex": true, "short": false, "version 4": true, "length": 36.0,
		"distinct": true, "global": true,
	} {
		if answers[what] != want {
			t.Errorf("%s: got %v, want %v", what, answers[what], want)
		}
	}
}

// A function writes and reads doubles as RFC 8785 has them, so it can compute a span's hash by itself; and
// what it returns is the same number.
func TestNumbersInTheSandboxAreRFC8785(t *testing.T) {
	t.Parallel()
	lines := strings.Fields(string(unpack(t, "es6_numbers.txt.gz")))
	var answer struct {
		Faults []string
		Values []json.Number
	}
	runInSandbox(t, `
		export default function main({ input }) {
			const view = new DataView(new ArrayBuffer(8));
			const answer = { faults: [], values: [] };
			for (const line of input) {
				const [bits, wanted] = line.split(",");
				view.setBigUint64(0, BigInt("0x" + bits));
				const value = view.getFloat64(0);
				if (JSON.stringify(value) !== wanted) answer.faults.push(bits + " is " + JSON.stringify(value));
				if (!Object.is(JSON.parse(wanted), value) && value !== 0) answer.faults.push(wanted + " is another");
				if (answer.values.length < 4000) answer.values.push(value);
			}
			return answer;
		}`, lines, &answer)
	for _, fault := range answer.Faults {
		t.Error(fault)
	}
	for i, value := range answer.Values {
		_, wanted, _ := strings.Cut(lines[i], ",")
		if got, err := canonicalJSON([]byte(value)); err != nil || got != wanted {
			t.Errorf("line %d: the output is %s, %v, want %s", i, got, err, wanted)
		}
	}
}
