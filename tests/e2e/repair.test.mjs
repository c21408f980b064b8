// One flipped bit and one truncated file of every kind on one node, then damage in different places on two nodes: found,
// mended from the others, nothing lost. Every kind of file in docs/log.md's table: of a plain topic, of one that is compacted and of one whose log begins
// late, and of the node itself. WEIR_REPAIR_ROUNDS=20 goes on with damage at random places.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, fstatSync, openSync, readFileSync, readdirSync, readSync, truncateSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Cluster, sleep, until, weir } from './lib/cluster.mjs';

const TOPIC = 'deeds';
const RECORDS = 8000;
const SIZE = 2000; // 16 MB: segments of 4 MiB are rolled
const ROUNDS = Number(process.env.WEIR_REPAIR_ROUNDS ?? 0);
const FRAMES_AT = 4096;
const KEYS = 40;
const CONFIG = ['chat', 'lifecycle', 'ledger', 'accounts', 'meta', TOPIC].map((t) => `log.topic = ${t} partitions=1`)
  .concat('log.topic = kept partitions=1 compact=yes', 'log.topic = late partitions=1 retain_mib=4', 'log.scrub_mib_s = 0').join('\n');

let cluster;
let expected; // checksums of all records
const dirOf = (node, topic = TOPIC) => join(node.dir, 'data/log', `${topic}-0`);
const filesOf = (node, suffix, topic = TOPIC) => readdirSync(dirOf(node, topic)).filter((n) => n.endsWith(suffix)).sort();
/** Of the node itself, seen from the folder of the topic. */
const own = (name) => join('../..', name);
/** Of another topic. */
const of = (topic, name) => join('..', `${topic}-0`, name);

function flip(node, name, at) {
  const fd = openSync(join(dirOf(node), name), 'r+');
  const byte = Buffer.alloc(1);
  const place = Math.min(at, fstatSync(fd).size - 1);
  readSync(fd, byte, 0, 1, place);
  byte[0] ^= 16;
  writeSync(fd, byte, 0, 1, place);
  closeSync(fd);
}
const shorten = (node, name, to) => truncateSync(join(dirOf(node), name), to);
const remove = (node, name) => unlinkSync(join(dirOf(node), name));

const records = async () => (await cluster.cli('log', 'consume', TOPIC, '--format', 'crc')).trim().split('\n').sort();

async function produce(n, topic = TOPIC, ...options) {
  const lines = Array.from({ length: n }, (_, i) => `${topic === 'kept' ? i % KEYS : i}=${i} ${'x'.repeat(SIZE)}`).join('\n');
  execFileSync(weir, ['log', 'produce', topic, ...options, '--config', cluster.nodes[0].config], { input: `${lines}\n`, timeout: 60_000 });
}

/** The newest value of each key of `kept`. */
async function newest() {
  const values = (await cluster.cli('log', 'consume', 'kept')).trim().split('\n').map((line) => Number(line.split(' ')[0].split('=').at(-1)));
  return [...new Map(values.map((v) => [v % KEYS, v])).values()].sort((a, b) => a - b);
}

/** Every checksum on every replica is read; what is damaged is mended; then all are equal. */
async function mended() {
  await until('every replica mended', async () => {
    await cluster.cli('log', 'scrub');
    await cluster.cli('log', 'verify');
    return true;
  }, 40_000);
  assert.deepEqual(await records(), expected);
  assert.deepEqual(await newest(), Array.from({ length: KEYS }, (_, i) => RECORDS - KEYS + i));
}

async function damage(nodes, what) {
  for (const n of nodes) await n.kill('SIGTERM');
  what(...nodes);
  for (const n of nodes) n.start();
  await mended();
  for (const n of cluster.nodes) assert.equal(n.ended, undefined, `${n.name} runs`);
}

before(async () => {
  cluster = await Cluster.start(CONFIG);
  await until('a leader', async () => (await produce(1), true));
  await produce(RECORDS);
  expected = await records();
  assert.ok(filesOf(cluster.nodes[1], '.log').length >= 4);
  await produce(RECORDS, 'kept', '--key-separator', '=');
  await produce(RECORDS, 'late');
  await until('logs that are compacted, and that begin late, everywhere', () => cluster.nodes.every((n) =>
    existsSync(join(dirOf(n, 'late'), 'begin')) && /log_segment_compacted .*kept-0/.test(readFileSync(n.log, 'utf8'))));
});
after(() => cluster?.stop());

const last = (names) => names[names.length - 1];
const VOTES = ['votes/votes.0', 'votes/votes.1'].map(own);
const kinds = {
  'a bit of a record in a closed segment': (n) => flip(n, filesOf(n, '.log')[1], 1_500_000),
  'a bit of a record in the newest segment': (n) => flip(n, last(filesOf(n, '.log')), FRAMES_AT + 200),
  "a bit of a segment's header": (n) => flip(n, last(filesOf(n, '.log')), 20),
  'a bit of an index': (n) => flip(n, filesOf(n, '.index')[0], 70),
  'a bit of the metadata': (n) => { flip(n, 'meta', 30); flip(n, 'meta', 4096 + 30); },
  'a bit of the mark': (n) => flip(n, 'mark', 20),
  'a bit of the fold': (n) => flip(n, last(filesOf(n, '.state')), 50),
  'a closed segment cut short': (n) => shorten(n, filesOf(n, '.log')[1], 1_000_000),
  'the newest segment cut short': (n) => shorten(n, last(filesOf(n, '.log')), FRAMES_AT + 300),
  'a missing segment': (n) => remove(n, filesOf(n, '.log')[1]),
  'the first segment missing, with its index': (n) => {
    remove(n, filesOf(n, '.index')[0]);
    remove(n, filesOf(n, '.log')[0]);
  },
  'a missing newest segment': (n) => remove(n, last(filesOf(n, '.log'))),
  'an empty index, mark and fold': (n) => {
    for (const name of [filesOf(n, '.index')[0], 'mark', last(filesOf(n, '.state'))]) shorten(n, name, 0);
  },
  'empty metadata': (n) => shorten(n, 'meta', 0),
  'a bit of the close record of a segment': (n) => flip(n, filesOf(n, '.log')[0], 1024 + 20),
  'a bit of the votes': (n) => { for (const name of VOTES) flip(n, name, 20); },
  'votes cut short': (n) => { for (const name of VOTES) shorten(n, name, 3000); },
  'no votes': (n) => { for (const name of VOTES) remove(n, name); },
  'a bit of the cluster file': (n) => flip(n, own('cluster'), 30),
  'the cluster file cut short': (n) => shorten(n, own('cluster'), 20),
  'a bit of where a log begins': (n) => flip(n, of('late', 'begin'), 20),
};

let turn = 0;
for (const [name, what] of Object.entries(kinds)) {
  test(`one node mends ${name}`, () => damage([cluster.nodes[++turn % 3]], what));
}

test('two nodes with damage in different places mend each other', () => damage([cluster.nodes[0], cluster.nodes[2]], (a, b) => {
  flip(a, filesOf(a, '.log')[0], 900_000);
  remove(a, filesOf(a, '.log')[2]);
  flip(b, filesOf(b, '.log')[1], 900_000);
  flip(b, last(filesOf(b, '.log')), FRAMES_AT + 20);
}));

test('a bit that flips while the node runs is found by weir log scrub', async () => {
  const n = cluster.nodes[1];
  flip(n, filesOf(n, '.log')[1], 2_000_000);
  const said = JSON.parse(await cluster.cli('log', 'scrub', '--json'));
  assert.ok(said.some((r) => r.found > 0), JSON.stringify(said));
  assert.ok(said.every((r) => r.damaged === 0));
  await mended();
});

test('records are still written', async () => {
  await produce(100);
  expected = await records();
  await sleep(200);
  await mended();
});

for (let i = 0; i < ROUNDS; i++) {
  test(`random damage, round ${i}`, () => damage([cluster.nodes[i % 3]], (n) => {
    const names = readdirSync(dirOf(n)).filter((f) => /\.(log|index|state)$|^(meta|mark)$/.test(f));
    const name = names[Math.floor(Math.random() * names.length)];
    const at = Math.floor(Math.random() * 4_000_000);
    console.log(`# ${n.name} ${name} at ${at}`);
    if (i % 2 === 0) flip(n, name, at);
    else shorten(n, name, at % 100_000);
  }));
}
