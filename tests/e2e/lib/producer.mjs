// `weir log produce` as a load that is stopped at will, and the check of what became of its records.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { Child } from './child.mjs';
import { weir } from './cluster.mjs';

const run = promisify(execFile);
const lines = (text) => text.split('\n').filter(Boolean);
let first = 0; // no two producers of a test write the same value

export class Producer extends Child {
  /** Generated records for `topic` until it is stopped. `acks`: where it writes what was acknowledged. One of the options may be { program }:
   * another version's, that does not know --first. */
  constructor(config, topic, acks, ...options) {
    first += 1e9;
    const other = options.find((o) => o.program);
    const numbered = other ? [] : ['--first', String(first)];
    super(other?.program ?? weir, ['log', 'produce', topic, '--seconds', '3600', '--json', '--report', '--ack-log', acks,
      ...numbered, '--config', config, ...options.filter((o) => o !== other)]);
    this.acks = acks;
  }

  /** Records acknowledged so far, as of its last report (one a second). */
  acked() {
    return Number([...this.err.matchAll(/ acked=(\d+)/g)].at(-1)?.[1] ?? 0);
  }

  /** What it printed, and the acknowledged records as lines `partition offset crc`. */
  async stop() {
    this.kill('SIGINT');
    const end = await this.ended;
    assert.ok(this.out, `it ended without a word: ${JSON.stringify(end)}\n${this.err}`);
    return { ...JSON.parse(this.out), err: this.err, lines: lines(readFileSync(this.acks, 'utf8')) };
  }
}

async function read(config, topic, format) {
  const { stdout } = await run(weir, ['log', 'consume', topic, '--format', format, '--config', config], { maxBuffer: 1 << 29, timeout: 120_000 });
  return lines(stdout);
}

/** Of the acknowledged records, which are not there; how many records are. */
export async function count(config, topic, acked) {
  const there = new Set(await read(config, topic, 'crc'));
  return { stored: there.size, lost: acked.filter((line) => !there.has(line)) };
}

/** The same, and which are stored twice: every generated value begins with a number of its own. */
export async function audit(config, topic, acked) {
  const numbers = new Set();
  const doubled = [];
  for (const value of await read(config, topic, 'value')) {
    const number = value.slice(0, 16);
    if (numbers.has(number)) doubled.push(number);
    numbers.add(number);
  }
  return { ...await count(config, topic, acked), doubled };
}
