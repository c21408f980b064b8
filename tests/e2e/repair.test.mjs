// One flipped bit and one truncated file of every kind on one node, then damage in different places on two nodes: found,
// mended from the others, nothing lost. Every kind of file in docs/log.md's table: of a plain topic, of one that is compacted and of one whose log begins
// late, of the node itself, which has two shards (WEIR_REPAIR_SHARDS), and of its views. By default kinds that touch different files are done together, as the
// suite has little time; WEIR_REPAIR=full does one after the other, and then every kind on two nodes at once that still has a good copy on the third.
// WEIR_REPAIR_ROUNDS=20 goes on with damage at random places.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, fstatSync, openSync, readFileSync, readdirSync, readSync, truncateSync, unlinkSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Cluster, sleep, until, weir } from './lib/cluster.mjs';

const TOPIC = 'deeds';
const RECORDS = 8000;
const SIZE = 2000; // 16 MB: segments of 4 MiB are rolled
const FULL = process.env.WEIR_REPAIR === 'full';
const SHARDS = Number(process.env.WEIR_REPAIR_SHARDS ?? 2);
const ROUNDS = Number(process.env.WEIR_REPAIR_ROUNDS ?? 0);
const FRAMES_AT = 4096;
const KEYS = 40;
const CONFIG = ['chat', 'lifecycle', 'ledger', 'accounts', 'meta', TOPIC].map((t) => `log.topic = ${t} partitions=1`)
  .concat('log.topic = kept partitions=1 compact=yes', 'log.topic = late partitions=1 retain_mib=4', 'log.scrub_mib_s = 0', `log.shards = ${SHARDS}`).join('\n');

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

/** The views of all nodes have folded the log to the same. */
const viewsAgree = () => until('views that agree', () => cluster.cli('replay', '--verify'), 60_000, 500);

async function damage(nodes, what) {
  for (const n of nodes) await n.kill('SIGTERM');
  what(...nodes);
  for (const n of nodes) n.start();
  await mended();
  await viewsAgree();
  for (const n of cluster.nodes) assert.equal(n.ended, undefined, `${n.name} runs`);
}

before(async () => {
  cluster = await Cluster.start(CONFIG, undefined, 3, { shards: SHARDS });
  await until('a leader', async () => (await produce(1), true));
  await produce(RECORDS);
  expected = await records();
  assert.ok(filesOf(cluster.nodes[1], '.log').length >= 4);
  await produce(RECORDS, 'kept', '--key-separator', '=');
  await produce(RECORDS, 'late');
  for (const name of ['ada', 'ben', 'cid']) await cluster.user(name);
  await until('logs that are compacted, and that are to begin late, everywhere', () => cluster.nodes.every((n) =>
    existsSync(join(dirOf(n, 'late'), 'begin')) && /log_segment_compacted .*kept-0/.test(readFileSync(n.log, 'utf8'))));
  for (const n of cluster.nodes) { // what comes before the begin is removed when a snapshot covers it: that is noted at a stop
    await n.kill('SIGTERM');
    n.start();
    await until(`${n.name} without the beginning of a log`, () => /log_segments_removed .*late-0/.test(readFileSync(n.log, 'utf8')));
  }
});
after(() => cluster?.stop());

const last = (names) => names[names.length - 1];
const VOTES = Array.from({ length: SHARDS }, (_, k) => (k === 0 ? 'votes' : `votes-${k}`))
  .flatMap((dir) => ['votes.0', 'votes.1'].map((name) => own(join(dir, name))));
const views = (n, pattern) => readdirSync(join(n.dir, 'data/views')).filter((name) => pattern.test(name)).map((name) => own(join('views', name)));
const lateFirst = (n) => of('late', filesOf(n, '.log', 'late')[0]);
const keptFirst = (n) => of('kept', filesOf(n, '.log', 'kept')[0]);

/** By the files that they touch: what is in one line of the table is never done together. */
const kinds = {
  'a bit of a record in a closed segment': (n) => flip(n, filesOf(n, '.log')[1], 1_500_000),
  'a closed segment cut short': (n) => shorten(n, filesOf(n, '.log')[1], 1_000_000),
  'a missing segment': (n) => remove(n, filesOf(n, '.log')[1]),
  'the first segment missing, with its index': (n) => {
    remove(n, filesOf(n, '.index')[0]);
    remove(n, filesOf(n, '.log')[0]);
  },
  'a bit of the close record of a segment': (n) => flip(n, filesOf(n, '.log')[0], 1024 + 20),
  'a bit of a record in the newest segment': (n) => flip(n, last(filesOf(n, '.log')), FRAMES_AT + 200),
  "a bit of a segment's header": (n) => flip(n, last(filesOf(n, '.log')), 20),
  'the newest segment cut short': (n) => shorten(n, last(filesOf(n, '.log')), FRAMES_AT + 300),
  'a missing newest segment': (n) => remove(n, last(filesOf(n, '.log'))),
  'a bit of an index': (n) => flip(n, filesOf(n, '.index')[0], 70),
  'a bit of the mark': (n) => flip(n, 'mark', 20),
  'a bit of the fold': (n) => flip(n, last(filesOf(n, '.state')), 50),
  'an empty index, mark and fold': (n) => {
    for (const name of [filesOf(n, '.index')[0], 'mark', last(filesOf(n, '.state'))]) shorten(n, name, 0);
  },
  'a bit of the metadata': (n) => { flip(n, 'meta', 30); flip(n, 'meta', 4096 + 30); },
  'empty metadata': (n) => shorten(n, 'meta', 0),
  'a bit of the votes': (n) => { for (const name of VOTES) flip(n, name, 20); },
  'votes cut short': (n) => { for (const name of VOTES) shorten(n, name, 3000); },
  'no votes': (n) => { for (const name of VOTES) remove(n, name); },
  'no votes of one shard': (n) => { for (const name of VOTES.slice(-2)) remove(n, name); },
  'a bit of the cluster file': (n) => flip(n, own('cluster'), 30),
  'the cluster file cut short': (n) => shorten(n, own('cluster'), 20),
  'no cluster file': (n) => remove(n, own('cluster')),
  'a bit of the file that says whose folder it is': (n) => flip(n, own('node'), 20),
  'the file that says whose folder it is cut short': (n) => shorten(n, own('node'), 15),
  'no file that says whose folder it is': (n) => remove(n, own('node')),
  'no lock file': (n) => remove(n, own('lock')),
  'a bit of where a log begins': (n) => flip(n, of('late', 'begin'), 20),
  'where a log begins cut short': (n) => shorten(n, of('late', 'begin'), 10),
  'no word of where a log begins': (n) => remove(n, of('late', 'begin')),
  'no word of where a log begins, nor its first segment': (n) => {
    remove(n, lateFirst(n));
    remove(n, of('late', 'begin'));
  },
  'a bit of a log that begins late': (n) => flip(n, of('late', last(filesOf(n, '.log', 'late'))), FRAMES_AT + 3000),
  'a bit of a compacted segment': (n) => flip(n, keptFirst(n), FRAMES_AT + 100),
  'a compacted segment cut short': (n) => shorten(n, keptFirst(n), FRAMES_AT + 10),
  "a bit of a compacted segment's header": (n) => flip(n, keptFirst(n), 20),
  'a missing compacted segment': (n) => remove(n, keptFirst(n)),
  'a bit of every table of the views': (n) => { for (const name of views(n, /\.sst$/)) flip(n, name, 100); },
  'tables of the views cut short': (n) => { for (const name of views(n, /\.sst$/)) shorten(n, name, 50); },
  'no tables of the views': (n) => { for (const name of views(n, /\.sst$/)) remove(n, name); },
  'a bit of the list of the views\' tables': (n) => { for (const name of views(n, /^MANIFEST/)) flip(n, name, 60); },
  'the list of the views\' tables cut short': (n) => { for (const name of views(n, /^MANIFEST/)) shorten(n, name, 40); },
  'no list of the views\' tables': (n) => { for (const name of views(n, /^MANIFEST/)) remove(n, name); },
  'a bit of what names that list': (n) => flip(n, own('views/CURRENT'), 3),
  'nothing that names that list': (n) => remove(n, own('views/CURRENT')),
  'a bit of the views\' options and identity': (n) => { for (const name of views(n, /^(OPTIONS|IDENTITY)/)) flip(n, name, 5); },
  'the views\' newest writes cut short': (n) => { for (const name of views(n, /^\d+\.log$/)) shorten(n, name, 10); },
  'no views': (n) => { for (const name of views(n, /./)) remove(n, name); },
};
/** For the suite: each line one restart. Damage that costs promises (metadata, votes, the end of a log) is alone there. */
const together = [
  ['a bit of a record in a closed segment', 'a bit of the close record of a segment', 'a bit of the fold', 'a bit of the cluster file', 'a bit of where a log begins', 'a bit of a compacted segment',
    'a bit of every table of the views', 'a bit of the file that says whose folder it is'],
  ['a closed segment cut short', 'a bit of an index', 'the cluster file cut short', 'where a log begins cut short', 'a compacted segment cut short', 'tables of the views cut short', 'no lock file'],
  ['a missing segment', 'a bit of a record in the newest segment', 'no cluster file', 'no word of where a log begins', "a bit of a compacted segment's header", 'no tables of the views',
    'the file that says whose folder it is cut short'],
  ['the first segment missing, with its index', "a bit of a segment's header", 'no word of where a log begins, nor its first segment', 'a missing compacted segment', "a bit of the list of the views' tables"],
  ['the newest segment cut short', 'a bit of a log that begins late', "the list of the views' tables cut short", 'no file that says whose folder it is'],
  ['a missing newest segment', "no list of the views' tables"],
  ['a bit of the mark', 'a bit of what names that list'],
  ['an empty index, mark and fold', 'nothing that names that list'],
  ['a bit of the metadata', "a bit of the views' options and identity"],
  ['empty metadata', "the views' newest writes cut short"],
  ['a bit of the votes', 'no views'],
  ['votes cut short'],
  ['no votes'],
  ['no votes of one shard'],
];
const leftOut = Object.keys(kinds).filter((name) => !together.flat().includes(name));
assert.deepEqual(leftOut, []);

let turn = 0;
for (const names of FULL ? Object.keys(kinds).map((name) => [name]) : together) {
  test(`one node mends ${names.join('; ')}`, () => damage([cluster.nodes[++turn % 3]], (n) => {
    for (const name of names) kinds[name](n);
  }));
}

test('two nodes with damage in different places mend each other', () => damage([cluster.nodes[0], cluster.nodes[2]], (a, b) => {
  flip(a, filesOf(a, '.log')[0], 900_000);
  remove(a, filesOf(a, '.log')[2]);
  flip(b, filesOf(b, '.log')[1], 900_000);
  flip(b, last(filesOf(b, '.log')), FRAMES_AT + 20);
}));

/** Of the same kind in different files: every entry still has a good copy somewhere, and both keep or regain their promises. */
const onTwo = FULL ? Object.keys(kinds).filter((name) => !/metadata|votes|newest|mark/.test(name)) : ['no word of where a log begins'];
for (const name of onTwo) {
  test(`two nodes mend ${name}`, () => damage([cluster.nodes[++turn % 3], cluster.nodes[(turn + 1) % 3]], (a, b) => {
    kinds[name](a);
    kinds[name](b);
  }));
}

test('a folder that says it is somebody else\'s is refused by name, with what to do', async () => {
  const n = cluster.nodes[turn % 3];
  const file = join(n.dir, 'data/node');
  await n.kill('SIGTERM');
  const good = readFileSync(file);
  writeFileSync(file, 'nonsense');
  n.start();
  assert.equal((await n.exited).code, 1);
  assert.match(n.logTail(3), /data folder .*\/data .*its file node says 'nonsense'.*remove the file/);
  writeFileSync(file, good);
  n.start();
  await mended();
});

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
