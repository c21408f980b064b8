// A compacted topic under load, with tombstones and a node that is killed: at the end a reader from the begin sees exactly the newest value of each
// key, the disks have less on them, all replicas are equal (and never seemed to differ), and a node that joins gets the same.
import assert from 'node:assert/strict';
import { closeSync, openSync, readdirSync, readSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Child } from './lib/child.mjs';
import { Cluster, sleep, until, weir } from './lib/cluster.mjs';

const TOPIC = 'state';
const KEYS = 700;
const RECORDS = Number(process.env.WEIR_COMPACT_RECORDS ?? 40_000);
const RATE = 1600; // a second: several decisions of the leader, one in 10 s
const CONFIG = ['node.roles = log', `log.topic = ${TOPIC} partitions=1 compact=yes tombstone_ms=1000`, 'log.topic = meta partitions=1',
  'log.free_mib_min = 1', 'log.scrub_mib_s = 0'].join('\n');

let cluster;
const newest = new Map(); // key: value, null when it was deleted
before(async () => {
  cluster = await Cluster.start(CONFIG);
});
after(() => cluster?.stop());

const dirOf = (node) => join(node.dir, 'data/log', `${TOPIC}-0`);
const segmentsOf = (node) => readdirSync(dirOf(node)).filter((n) => n.endsWith('.log')).sort();
const bytesOf = (node) => segmentsOf(node).reduce((sum, n) => sum + statSync(join(dirOf(node), n)).size, 0);

/** Writes records of random keys, one in ten a tombstone, at a steady rate; when the promise ends all of them are acknowledged. */
async function produce(n) {
  const child = new Child(weir, ['log', 'produce', TOPIC, '--key-separator', ':', '--null-empty', '--config', cluster.nodes[0].config],
    { stdio: ['pipe', 'ignore', 'pipe'] });
  let bytes = 0;
  const begun = Date.now();
  for (let i = 0; i < n; i++) {
    const once = i < 200 && newest.size < KEYS; // these are written and deleted, and never again
    const key = once ? `once-${i % 100}` : `key-${Math.floor(Math.random() * KEYS)}`;
    const value = (once ? i >= 100 : Math.random() < 0.1) ? '' : `${i} ${'x'.repeat(Math.floor(Math.random() * 1800))}`;
    newest.set(key, value === '' ? null : value);
    bytes += value.length;
    if (!child.stdin.write(`${key}:${value}\n`)) await new Promise((done) => child.stdin.once('drain', done));
    const ahead = (i * 1000) / RATE - (Date.now() - begun);
    if (ahead > 20) await sleep(ahead);
  }
  child.stdin.end();
  assert.equal((await child.ended).code, 0, child.err);
  return bytes;
}

/** What each replica says, whether or not all is well. */
async function verify() {
  const out = await cluster.cli('log', 'verify', TOPIC, '--json').catch((e) => e.stdout);
  return JSON.parse(out).details.flatMap((p) => p.replicas);
}

const replicas = async () => JSON.parse(await cluster.cli('log', 'describe', TOPIC, '--json'));

async function read(node) {
  const { stdout } = await cluster.run(node, 'log', 'consume', TOPIC, '--format', 'json');
  return stdout.trim().split('\n').map((line) => JSON.parse(line));
}

/** The fold of what is there, and what is there of it below the mark: of each key one record. */
async function check(node, mark) {
  const folded = new Map();
  const seen = new Set();
  for (const r of await read(node)) {
    if (r.offset < mark) {
      assert.ok(!seen.has(r.key), `${r.key} is there twice below ${mark}`);
      seen.add(r.key);
    }
    folded.set(r.key, r.value);
  }
  for (const [key, value] of newest) assert.equal(folded.get(key) ?? null, value, key);
  for (const key of folded.keys()) assert.ok(newest.has(key));
  return folded;
}

test('the newest value of each key is what is left, whatever dies', async () => {
  const [, , n3] = cluster.nodes;
  const verdicts = new Set();
  let writing = true;
  const checking = (async () => {
    while (writing) {
      for (const r of await verify()) verdicts.add(r.result);
      await sleep(500);
    }
  })();
  const killing = (async () => {
    await sleep(12_000);
    await n3.kill('SIGKILL');
    await sleep(3000);
    n3.start();
  })();
  const bytes = await produce(RECORDS);
  await killing;
  writing = false;
  await checking;
  console.log({ verdicts: [...verdicts], written: bytes });
  assert.ok(!verdicts.has('differs') && !verdicts.has('corrupt'), [...verdicts].join());

  const done = await until('all replicas have compacted what they were told to', async () => {
    const all = await replicas();
    return all.length === 3 && all.every((r) => !r.compacting && r.compacted_offset > RECORDS / 2 &&
      r.compacted_offset === all[0].compacted_offset && r.size_bytes < bytes / 2) && all;
  }, 90_000, 500);
  await cluster.cli('log', 'verify');
  for (const n of cluster.nodes) {
    assert.ok(bytesOf(n) < bytes / 2, `${n.name} has ${bytesOf(n)} of ${bytes} bytes on its disk`);
    await check(n, done[0].compacted_offset);
  }
  console.log({ written: bytes, kept: done.map((r) => r.size_bytes), below: done[0].compacted_offset });
});

test('tombstones go in the end, and what they deleted stays deleted', async () => {
  const gone = await until('a decision that lets tombstones go', async () => {
    await produce(8000);
    const all = await replicas();
    return all.every((r) => !r.compacting && r.tombstones_ms > 0 && r.tombstones_ms === all[0].tombstones_ms) && all;
  }, 180_000, 100);
  await cluster.cli('log', 'verify');
  const left = await check(cluster.nodes[1], gone[0].compacted_offset);
  assert.ok(newest.has('once-0') && ![...left.keys()].some((k) => k.startsWith('once-')), 'nothing is left of deleted keys');
  for (const r of await read(cluster.nodes[2])) {
    assert.ok(r.value !== null || r.offset >= gone[0].compacted_offset || r.time_ms >= gone[0].tombstones_ms, JSON.stringify(r));
  }
});

test('a flipped bit in a compacted segment is noticed and mended', async () => {
  const [n1] = cluster.nodes;
  const name = segmentsOf(n1).find((n) => statSync(join(dirOf(n1), n)).size > 50_000);
  const fd = openSync(join(dirOf(n1), name), 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, 40_000);
  byte[0] ^= 4;
  writeSync(fd, byte, 0, 1, 40_000);
  closeSync(fd);
  assert.ok((await verify()).some((r) => r.node === 'n1' && r.result === 'corrupt'));
  await until('mended and equal', () => cluster.cli('log', 'verify').then(() => true), 60_000, 500);
});

test('a node that joins gets the compacted log', async () => {
  const [n1] = cluster.nodes;
  const n4 = await cluster.newNode('n4', CONFIG);
  n4.start();
  await until('n4 healthy', () => n4.healthy());
  await cluster.cli('cluster', 'add', 'n4', 'id=4', ...['peer', 'broker', 'http', 'rtmp'].map((k) => `${k}=127.0.0.1:${n4.ports[k]}`), '--wait');
  await cluster.cli('cluster', 'drain', 'n1', '--wait');
  let state;
  const all = await until('n4 is as far as the others', async () => {
    const list = (await replicas()).filter((r) => r.node !== 'n1');
    state = JSON.stringify(list, ['node', 'compacting', 'compacted_offset', 'leading', 'high_watermark']);
    return list.length === 3 && list.every((r) => !r.compacting && r.compacted_offset === list[0].compacted_offset) && list;
  }, 60_000, 500).catch((e) => assert.fail(`${e.message} ${state}`));
  await cluster.cli('log', 'verify');
  await check(n4, all[0].compacted_offset);
  assert.ok(n1.ended === undefined);
});
