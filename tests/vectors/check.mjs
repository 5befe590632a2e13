// A second implementation of derived ids, canonical spans, hashes and signatures, written from docs/contract.md
// to check the first. BLAKE3 and Ed25519 are @noble's (npm ci --prefix tests/node); the rest is here.
//
//   node check.mjs                  checks ids.json, canonical.json, keys.json and the sets of public/
//   node check.mjs FILE             checks spans, one JSON row a line, each by the key that it names: prints ok,
//                                   unsigned, or what is wrong, for each
//   node check.mjs FILE PUBLIC_KEY  the same, where nothing counts but this key
//
// Exit code 1 where anything differs.
import { createHash, createPublicKey, verify as opensslVerify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

const noble = (path) => import(new URL(`../node/node_modules/@noble/${path}.js`, import.meta.url));
const { default: { blake3 } } = await noble('hashes/blake3');
const { default: { ed25519 } } = await noble('curves/ed25519');
const hex = (text) => Buffer.from(text, 'hex');

const excluded = new Set(['curr_hash', 'signature', 'accepted_at', 'xact']);
const numerics = new Set(['value', 'confidence', 'cost']);
const times = new Set(['at', 'scheduled_at', 'effective_at', 'expires_at', 'ttl_at']);
const uuids = new Set(['id', 'parent_id', 'policy_id', 'provider_id']);

// JSON.parse rounds numbers without a word. So each literal becomes a text first: a number n…, a string s….
const literal = /"(?:[^"\\]|\\.)*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const mark = (found) => (found[0] === '"' ? `"s${found.slice(1)}` : `"n${found}"`);
const parse = (text) => JSON.parse(text.replace(literal, mark));
const bare = (marked) => marked?.slice(1);

// A decimal as digits × 10^exponent, without zeros at either end of the digits.
function decimal(text) {
  const grammar = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/;
  const [, sign, whole, fraction = '', exponent = '0'] = grammar.exec(text);
  const digits = (whole + fraction).replace(/^0+/, '');
  const kept = digits.replace(/0+$/, '');
  if (kept === '') return { sign: '', digits: '', exponent: 0 };
  return { sign, digits: kept, exponent: Number(exponent) - fraction.length + digits.length - kept.length };
}

function plainDecimal(text) {
  const { sign, digits, exponent } = decimal(text);
  if (digits === '') return '0';
  if (exponent >= 0) return sign + digits + '0'.repeat(exponent);
  const padded = digits.padStart(1 - exponent, '0');
  return `${sign}${padded.slice(0, exponent)}.${padded.slice(exponent)}`;
}

// The shortest form of the double, where that is the same decimal: else no double is exactly this number.
function canonicalNumber(text) {
  const value = Number(text);
  if (!Number.isFinite(value)) return null;
  const [a, b] = [decimal(text), decimal(String(value))];
  return Object.keys(a).every((part) => a[part] === b[part]) ? JSON.stringify(value) : null;
}

function canonicalTime(text) {
  const [, seconds, fraction = '', zone] = /^(.{19})(?:\.(\d+))?(Z|[+-]\d\d:\d\d)$/.exec(text);
  const utc = new Date(seconds + zone).toISOString();
  return `${utc.slice(0, 19)}.${fraction.slice(0, 6).padEnd(6, '0')}Z`;
}

function quote(text) {
  if (/[\0\p{Cs}]/u.test(text)) throw new Error('a lone surrogate or U+0000');
  return JSON.stringify(text);
}

function scalar(value) {
  if (typeof value !== 'string') return JSON.stringify(value);
  if (value[0] === 's') return quote(bare(value));
  const written = canonicalNumber(bare(value));
  if (written === null) throw new Error(`no double is exactly ${bare(value)}`);
  return written;
}

// RFC 8785: strings as JSON.stringify writes them, keys in the order of their UTF-16 code units.
function jcs(value, depth = 0) {
  if (value === null || typeof value !== 'object') return scalar(value);
  if (depth > 64) throw new Error('nested deeper than 64');
  const inner = (element) => jcs(element, depth + 1);
  if (Array.isArray(value)) return `[${value.map(inner).join(',')}]`;
  return `{${Object.keys(value).sort().map((key) => `${quote(bare(key))}:${inner(value[key])}`).join(',')}}`;
}

function canonicalSpan(span) {
  const hashed = { s$canon: 'sll-span/1' };
  for (const [key, value] of Object.entries(span)) {
    const column = bare(key);
    if (value === null || excluded.has(column)) continue;
    if (numerics.has(column)) hashed[key] = `s${plainDecimal(bare(value))}`;
    else if (times.has(column)) hashed[key] = `s${canonicalTime(bare(value))}`;
    else if (column === 'related_to') hashed[key] = value.map((id) => id.toLowerCase());
    else hashed[key] = uuids.has(column) ? value.toLowerCase() : value;
  }
  return jcs(hashed);
}

const hashOf = (text) => Buffer.from(blake3(Buffer.from(text))).toString('hex');

// Strict: @noble refuses encodings that are not canonical and keys of small order, OpenSSL what holds only
// when multiplied by the cofactor.
function verifies(publicKey, message, signature) {
  const der = Buffer.concat([hex('302a300506032b6570032100'), publicKey]);
  try {
    return ed25519.verify(signature, message, publicKey, { zip215: false })
      && opensslVerify(null, message, createPublicKey({ key: der, format: 'der', type: 'spki' }), signature);
  } catch {
    return false;
  }
}

function derive({ kind, at, uuids: ids, integers }) {
  const hash = createHash('sha256').update(kind).update('\0');
  for (const id of ids) hash.update(hex(id.replaceAll('-', '')));
  for (const integer of integers) {
    const word = Buffer.alloc(8);
    word.writeBigInt64BE(BigInt(integer));
    hash.update(word);
  }
  const id = Buffer.alloc(16);
  id.writeUIntBE(Date.parse(`${at.slice(0, 19)}Z`) + Number(at.slice(20, 23)), 0, 6);
  hash.digest().copy(id, 6, 0, 10);
  id[6] = (id[6] & 0x0f) | 0x80;
  id[8] = (id[8] & 0x3f) | 0x80;
  return id.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

function uuid5(namespace, name) {
  const id = createHash('sha1').update(hex(namespace.replaceAll('-', ''))).update(name).digest().subarray(0, 16);
  id[6] = (id[6] & 0x0f) | 0x50;
  id[8] = (id[8] & 0x3f) | 0x80;
  return id.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

const system = uuid5('05e24595-4bbb-57e4-810f-6d85f953de6c', 'system');
const counted = (text) => `${Buffer.byteLength(text)}:${text}\n`;
function statement({ public_key: key, purposes, tenant, owner }) {
  return hashOf(`loglineos key possession 1\n${[key, purposes.join(','), tenant, owner].map(counted).join('')}`);
}

const read = (name) => readFileSync(new URL(name, import.meta.url));
const gunzip = (name) => gunzipSync(read(`public/${name}`)).toString();
let checked = 0;
function expect(name, got, want) {
  checked += 1;
  if (got === want) return;
  console.error(`${name}: got ${got}, want ${want}`);
  process.exitCode = 1;
}

function checkVectors() {
  for (const vector of JSON.parse(read('ids.json'))) expect(vector.name, derive(vector), vector.id);
  const { spans: written, numbers, key } = JSON.parse(read('canonical.json').toString());
  parse(read('canonical.json').toString()).sspans.forEach((vector, i) => {
    const { name, canonical, hash, signature } = written[i];
    expect(name, canonicalSpan(vector.sspan), canonical);
    expect(name, hashOf(canonical), hash);
    expect(name, verifies(hex(key.public), hex(hash), hex(signature)), true);
  });
  for (const key of JSON.parse(read('keys.json'))) {
    const publicKey = hex(key.public_key);
    expect(key.name, Buffer.from(ed25519.getPublicKey(key.secret)).toString('hex'), key.public_key);
    expect(key.name, hashOf(publicKey), key.fingerprint);
    expect(key.name, uuid5(system, `key:${key.public_key}`), key.id);
    expect(key.name, statement(key), key.statement);
    expect(key.name, verifies(publicKey, hex(key.statement), hex(key.proof)), true);
  }
  for (const { text, canonical } of numbers) expect(`number ${text}`, canonicalNumber(text), canonical);
  for (const line of gunzip('es6_numbers.txt.gz').trimEnd().split('\n')) {
    const [bits, wanted] = line.split(',');
    expect(`double ${bits}`, canonicalNumber(wanted), wanted);
    expect(`double ${bits}`, JSON.stringify(hex(bits.padStart(16, '0')).readDoubleBE()), wanted);
  }
  for (const name of ['arrays', 'french', 'structures', 'unicode', 'values', 'weird']) {
    // public/README.md says why one number is another here.
    const input = read(`public/jcs/${name}.in.json`).toString().replace('333333333.33333329', '333333333.3333333');
    expect(name, jcs(parse(input)), read(`public/jcs/${name}.out.json`).toString());
  }
  for (const { input_len: length, hash } of JSON.parse(gunzip('blake3.json.gz')).cases) {
    expect(`BLAKE3 of ${length}`, hashOf(Uint8Array.from({ length }, (_, i) => i % 251)), hash.slice(0, 64));
  }
  for (const { name, public: key32, message, signature } of JSON.parse(read('public/ed25519_rfc8032.json'))) {
    expect(name, verifies(hex(key32), hex(message), hex(signature)), true);
  }
  for (const { tcId, pk, msg, sig, result } of JSON.parse(gunzip('wycheproof_ed25519.json.gz')).tests) {
    expect(`Wycheproof ${tcId}`, verifies(hex(pk), hex(msg), hex(sig)), result === 'valid');
  }
  const strict = (flags) => !/LowOrderA|NonCanonical|Residue/.test(flags ?? '');
  JSON.parse(gunzip('ed25519_edges.json.gz')).forEach(({ A, R, S, M, Flags }, i) => {
    expect(`edge ${i}`, verifies(hex(A), Buffer.from(M), hex(R + S)), strict(Flags));
  });
  console.log(`${checked} results checked`);
}

function verdictOf(line, publicKey) {
  try {
    const span = parse(line);
    const [hash, signature] = [bare(span.scurr_hash), bare(span.ssignature)];
    if (hashOf(canonicalSpan(span)) !== hash) return 'hash_mismatch';
    if (!signature && publicKey === undefined) return 'unsigned';
    const key = hex(publicKey ?? bare(span.spublic_key));
    return verifies(key, hex(hash), hex(signature ?? '')) ? 'ok' : 'bad_signature';
  } catch (error) {
    return `refused: ${error.message}`;
  }
}

const [file, publicKey] = process.argv.slice(2);
const lines = file === undefined ? [] : readFileSync(file, 'utf8').trimEnd().split('\n');
if (file === undefined) checkVectors();
for (const line of lines) {
  const verdict = verdictOf(line, publicKey);
  console.log(verdict);
  if (!/^(ok|unsigned)$/.test(verdict)) process.exitCode = 1;
}
