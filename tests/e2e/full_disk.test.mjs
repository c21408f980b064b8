// A node whose disk is full. Three nodes, each on an ext4 image of its own, under load: the one that leads most has its disk filled. The others take
// over and writes go on; it leads nothing while it is full, although leaders are balanced; with room again it leads its share. When two disks are
// full, or all, leaderships stay where they are, and writes are refused by name. Nothing is lost or stored twice.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Cluster, sleep, until } from './lib/cluster.mjs';
import { Disk } from './lib/disk.mjs';
import { Producer, audit } from './lib/producer.mjs';

const PARTITIONS = 6;
const CONFIG = ['node.roles = log', 'log.free_mib_min = 32', `log.topic = busy partitions=${PARTITIONS}`,
  'log.topic = idle partitions=3', 'log.topic = groups partitions=1', 'log.topic = meta partitions=1'].join('\n');

let folder, cluster;
const disks = [];

before(async () => {
  folder = mkdtempSync(join(process.env.WEIR_E2E_DIR ?? tmpdir(), 'weir-full-'));
  cluster = await Cluster.start(CONFIG, folder, 3, {
    prepare(node) {
      const disk = Disk.make(join(folder, `${node.name}.disk`), join(node.dir, 'data'), 320);
      if (disk) disks.push(disk);
    },
  });
});
after(async () => {
  await cluster?.stop(() => process.env.WEIR_E2E_KEEP || disks.forEach((d) => d.close()));
  if (!process.env.WEIR_E2E_KEEP) rmSync(folder, { recursive: true, force: true });
});

const leads = async (node) => Number(/^weir_broker_leaders (\d+)/m.exec(await (await node.get('/metrics')).text())?.[1] ?? 0);
const saysFull = async (node) => /^weir_broker_disk_full 1$/m.test(await (await node.get('/metrics')).text());
const transfers = () => cluster.nodes.reduce((n, node) => n + readFileSync(node.log, 'utf8').split(' raft_transfer ').length - 1, 0);

function fill(disk) {
  const { bavail, bsize } = statfsSync(disk.at);
  if (bavail > 256) execFileSync('fallocate', ['-l', String((bavail - 128) * bsize), join(disk.at, 'filler')]);
}
const empty = (disk) => rmSync(join(disk.at, 'filler'), { force: true });

function producers() {
  const at = join(folder, 'acks');
  mkdirSync(at);
  return Array.from({ length: PARTITIONS }, (_, p) => new Producer(cluster.nodes[0].config, 'busy', join(at, String(p)),
    '--partition', String(p), '--rate', '100', '--window', '512', '--timeout', '30000'));
}
const allWrite = (load) => {
  const before = load.map((p) => p.acked());
  return until('every partition acknowledges', () => load.every((p, i) => p.acked() > before[i]), 60_000);
};

const withDisks = (act) => async (t) => {
  if (disks.length === 3) await act(t);
  else t.diagnostic('no loop devices here: no disk to fill');
};

test('a node whose disk is full hands over what it leads, and leads its share when there is room', { timeout: 300_000 }, withDisks(async () => {
  await cluster.cli('cluster', 'balance', '--wait');
  const load = producers();
  await allWrite(load);
  const counts = await Promise.all(cluster.nodes.map(leads));
  const victim = cluster.nodes[counts.indexOf(Math.max(...counts))];
  const disk = disks[cluster.nodes.indexOf(victim)];
  const said = { led: counts.join(' '), victim: victim.name };
  const begun = Date.now();
  fill(disk);
  await until('it leads nothing', async () => await leads(victim) === 0);
  said.led_nothing_after_ms = Date.now() - begun;
  await allWrite(load);
  await cluster.cli('cluster', 'balance', '--wait');
  const led = [];
  for (let i = 0; i < 20; i++) {
    led.push(await leads(victim));
    await sleep(100);
  }
  assert.equal(Math.max(...led), 0, 'it leads although its disk is full');
  assert.ok(await saysFull(victim));
  empty(disk);
  await until('it has room', async () => !await saysFull(victim));
  await until('it leads again', async () => await leads(victim) > 0);
  await cluster.cli('cluster', 'balance', '--wait');
  said.leads_after = (await Promise.all(cluster.nodes.map(leads))).join(' ');
  await allWrite(load);
  const results = await Promise.all(load.map((p) => p.stop()));
  said.longest_gap_ms = results.map((r) => r.longest_ack_gap_ms).join(' ');
  console.log('full', said);
  for (const r of results) assert.deepEqual([r.failed, r.unknown], [0, 0], r.err);
  const acked = results.flatMap((r) => r.lines);
  const { lost, doubled } = await audit(cluster.nodes[0].config, 'busy', acked);
  assert.deepEqual([lost, doubled], [[], []]);
  await until('all replicas are equal', () => cluster.cli('log', 'verify'), 30_000, 500);
}));

test('when two disks or all are full nothing moves and writes are refused by name', { timeout: 300_000 }, withDisks(async () => {
  const produce = () => cluster.cli('log', 'produce', 'idle', '--records', '30', '--timeout', '4000');
  await until('it takes records', produce);
  const begun = Date.now();
  const said = {};
  for (const full of [2, 3]) {
    for (const disk of disks.slice(0, full)) fill(disk);
    await until('they are full', async () => (await Promise.all(cluster.nodes.slice(0, full).map(saysFull))).every(Boolean));
    await until('they know it of each other', async () => {
      const before = transfers();
      await sleep(1500);
      return transfers() === before;
    });
    const before = transfers();
    const refused = await produce().then(() => undefined, (e) => e);
    assert.match(refused?.stderr ?? `${full} full disks took records`, /disk full/);
    assert.equal(transfers(), before);
    said[`refused_with_${full}_after_ms`] = Date.now() - begun;
  }
  for (const n of cluster.nodes) assert.equal(n.ended, undefined, `${n.name} has died`);
  for (const disk of disks) empty(disk);
  await until('it takes records again', produce);
  said.takes_records_after_ms = Date.now() - begun;
  console.log('all full', said);
  await until('all replicas are equal', () => cluster.cli('log', 'verify'), 30_000, 500);
}));
