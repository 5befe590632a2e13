// A second implementation of derived ids, canonical spans and BLAKE3, written from docs/contract.md and
// the BLAKE3 paper (§2, github.com/BLAKE3-team/BLAKE3-specs), to check ids.json and canonical.json.
// Node 20, no dependencies. Exit code 1 and one line for each difference.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

const excluded = new Set(['curr_hash', 'signature', 'accepted_at', 'xact']);
const numerics = new Set(['value', 'confidence', 'cost']);
const times = new Set(['at', 'scheduled_at', 'effective_at', 'expires_at', 'ttl_at']);
const uuids = new Set(['id', 'parent_id', 'policy_id', 'provider_id']);

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

function canonicalNumber(text) {
  const value = Number(text);
  if (!Number.isFinite(value)) return null;
  const a = decimal(text);
  const b = decimal(String(value));
  const exact = a.sign === b.sign && a.digits === b.digits && a.exponent === b.exponent;
  return exact ? JSON.stringify(value) : null;
}

function canonicalTime(text) {
  const [, seconds, fraction = '', zone] = /^(.{19})(?:\.(\d+))?(Z|[+-]\d\d:\d\d)$/.exec(text);
  const utc = new Date(seconds + zone).toISOString();
  return `${utc.slice(0, 19)}.${fraction.slice(0, 6).padEnd(6, '0')}Z`;
}

// RFC 8785: JSON.stringify for scalars, keys in the order of their UTF-16 code units.
function jcs(value) {
  if (Array.isArray(value)) return `[${value.map(jcs).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  return `{${Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${jcs(value[key])}`).join(',')}}`;
}

function canonicalSpan(span) {
  const hashed = { $canon: 'll-span/1' };
  for (const [column, value] of Object.entries(span)) {
    if (value === null || excluded.has(column)) continue;
    if (numerics.has(column)) hashed[column] = plainDecimal(value);
    else if (times.has(column)) hashed[column] = canonicalTime(value);
    else if (uuids.has(column)) hashed[column] = value.toLowerCase();
    else hashed[column] = value;
  }
  return jcs(hashed);
}

function derive({ kind, at, uuids: ids, integers }) {
  const hash = createHash('sha256').update(kind).update('\0');
  for (const id of ids) hash.update(Buffer.from(id.replaceAll('-', ''), 'hex'));
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

const iv = [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];
const permutation = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
const [chunkStart, chunkEnd, parent, root] = [1, 2, 4, 8];
const rotate = (word, bits) => (word >>> bits) | (word << (32 - bits));

function compress(chaining, block, counter, length, flags) {
  const state = [...chaining, ...iv.slice(0, 4), counter, 0, length, flags];
  const mix = (a, b, c, d, x, y) => {
    state[a] = (state[a] + state[b] + x) | 0;
    state[d] = rotate(state[d] ^ state[a], 16);
    state[c] = (state[c] + state[d]) | 0;
    state[b] = rotate(state[b] ^ state[c], 12);
    state[a] = (state[a] + state[b] + y) | 0;
    state[d] = rotate(state[d] ^ state[a], 8);
    state[c] = (state[c] + state[d]) | 0;
    state[b] = rotate(state[b] ^ state[c], 7);
  };
  let words = block;
  for (let round = 0; round < 7; round += 1) {
    for (let i = 0; i < 4; i += 1) mix(i, 4 + i, 8 + i, 12 + i, words[2 * i], words[2 * i + 1]);
    for (let i = 0; i < 4; i += 1) {
      mix(i, 4 + ((i + 1) % 4), 8 + ((i + 2) % 4), 12 + ((i + 3) % 4), words[8 + 2 * i], words[9 + 2 * i]);
    }
    words = permutation.map((from) => words[from]);
  }
  return iv.map((_, i) => state[i] ^ state[i + 8]);
}

function chunkHash(bytes, counter, flags) {
  const blocks = Math.max(1, Math.ceil(bytes.length / 64));
  let chaining = iv;
  for (let i = 0; i < blocks; i += 1) {
    const block = Buffer.alloc(64);
    const length = bytes.copy(block, 0, i * 64);
    const words = Array.from({ length: 16 }, (_, w) => block.readInt32LE(w * 4));
    const last = i === blocks - 1;
    const all = (i === 0 ? chunkStart : 0) | (last ? chunkEnd | flags : 0);
    chaining = compress(chaining, words, counter, length, all);
  }
  return chaining;
}

function treeHash(bytes, counter, flags) {
  if (bytes.length <= 1024) return chunkHash(bytes, counter, flags);
  let left = 1024;
  while (left * 2 < bytes.length) left *= 2;
  const block = [
    ...treeHash(bytes.subarray(0, left), counter, 0),
    ...treeHash(bytes.subarray(left), counter + left / 1024, 0),
  ];
  return compress(iv, block, 0, 64, parent | flags);
}

function blake3(text) {
  const out = Buffer.alloc(32);
  treeHash(Buffer.from(text), 0, root).forEach((word, i) => out.writeInt32LE(word, i * 4));
  return out.toString('hex');
}

const read = (name) => JSON.parse(readFileSync(new URL(name, import.meta.url), 'utf8'));
let checked = 0;
function expect(name, got, want) {
  checked += 1;
  if (got === want) return;
  console.error(`${name}: got ${got}, want ${want}`);
  process.exitCode = 1;
}

// BLAKE3's own vectors for the empty input and for 'abc'.
expect('blake3 of nothing', blake3(''), 'af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262');
expect('blake3 of abc', blake3('abc'), '6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85');
for (const vector of read('ids.json')) expect(vector.name, derive(vector), vector.id);
const { spans, numbers } = read('canonical.json');
for (const vector of spans) {
  expect(vector.name, canonicalSpan(vector.span), vector.canonical);
  expect(vector.name, blake3(vector.canonical), vector.hash);
}
for (const vector of numbers) expect(`number ${vector.text}`, canonicalNumber(vector.text), vector.canonical);
console.log(`${checked} results checked`);
