// A node with a disk that is stuck, slow or broken. Three nodes, each on an ext4 image of its own, under load. Stuck (the disk of the node that leads
// most is frozen): the others take over, it wins nothing, and after the thaw it follows, catches up and leads its share again. Slow: it is slow.
// Broken (EIO): the others take over, and a new disk makes it whole. Nothing is lost or stored twice.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Child } from './lib/child.mjs';
import { Cluster, sleep, until, weir } from './lib/cluster.mjs';
import { Disk } from './lib/disk.mjs';
import { Producer, audit } from './lib/producer.mjs';

const PARTITIONS = 6;
const FROZEN_MS = Number(process.env.WEIR_FROZEN_MS ?? 8000);
const CONFIG = ['node.roles = log', 'log.free_mib_min = 16', `log.topic = busy partitions=${PARTITIONS}`, 'log.topic = idle partitions=6',
  'log.topic = groups partitions=1', 'log.topic = meta partitions=1'].join('\n');

let folder, cluster;
const disks = [];

before(async () => {
  folder = mkdtempSync(join(process.env.WEIR_E2E_DIR ?? tmpdir(), 'weir-stuck-'));
  cluster = await Cluster.start(CONFIG, folder, 3, {
    prepare(node) {
      const disk = Disk.make(join(folder, `${node.name}.disk`), join(node.dir, 'data'), 512);
      if (disk) disks.push(disk);
    },
  });
});
after(async () => {
  await cluster?.stop(() => process.env.WEIR_E2E_KEEP || disks.forEach((d) => d.close()));
  if (!process.env.WEIR_E2E_KEEP) rmSync(folder, { recursive: true, force: true });
});

const metric = async (node, name) => Number(new RegExp(`^${name} (\\d+)`, 'm').exec(await (await node.get('/metrics')).text())?.[1] ?? 0);
const leads = (node) => metric(node, 'weir_broker_leaders');
const won = (node) => metric(node, 'weir_raft_elections_won_total');

function producers(name) {
  mkdirSync(join(folder, name));
  return Array.from({ length: PARTITIONS }, (_, p) => new Producer(cluster.nodes[0].config, 'busy', join(folder, name, String(p)),
    '--partition', String(p), '--rate', '300', '--window', '4096', '--timeout', '30000'));
}

/** A consumer that reads from `node` first. */
function follow(node) {
  const brokers = [node, ...cluster.nodes.filter((n) => n !== node)].map((n) => `127.0.0.1:${n.ports.broker}`).join(',');
  const secret = join(folder, 'secret');
  writeFileSync(secret, cluster.secret);
  const child = new Child(weir, ['log', 'consume', 'busy', '--follow', '--format', 'crc', '--brokers', brokers, '--secret-file', secret],
    { stdio: ['ignore', 'pipe', 'inherit'] });
  return { count: () => child.out.split('\n').length - 1 };
}

const acked = [];
async function stopAll(load, said) {
  const results = await Promise.all(load.map((p) => p.stop()));
  for (const r of results) {
    assert.equal(r.failed, 0, r.err);
    assert.equal(r.unknown, 0, r.err);
    acked.push(...r.lines);
  }
  said.longest_gap_ms = results.map((r) => r.longest_ack_gap_ms).join(' ');
  said.acked = results.reduce((n, r) => n + r.acked, 0);
}
const allWrite = (load) => {
  const before = load.map((p) => p.acked());
  return until('every partition acknowledges', () => load.every((p, i) => p.acked() > before[i]), 60_000);
};

async function nothingIsLost() {
  const { lost, doubled, stored } = await audit(cluster.nodes[0].config, 'busy', acked);
  console.log({ acked: acked.length, stored, lost: lost.length, doubled: doubled.length });
  assert.deepEqual([lost, doubled], [[], []]);
  await until('all replicas are equal', () => cluster.cli('log', 'verify'), 30_000, 500);
}

/** The node that leads most of the busy partitions, and its disk. */
async function busiest() {
  const status = await until('every partition has a leader', () => cluster.cli('cluster', 'status', '--json'));
  const led = JSON.parse(status).partitions.filter((p) => p.topic === 'busy').map((p) => p.leader);
  const leading = (n) => led.filter((l) => l === n.name).length;
  const victim = [...cluster.nodes].sort((a, b) => leading(b) - leading(a))[0];
  return { victim, disk: disks[cluster.nodes.indexOf(victim)], said: { leaders: led.join(' '), victim: victim.name } };
}

const withDisks = (act) => async (t) => {
  if (disks.length < 3) return t.diagnostic('no loop devices here: no disk to break');
  try {
    await act(t);
  } finally {
    for (const d of disks) await d.mend();
  }
};

test('a node whose disk is stuck gives up what it leads, and comes back', { timeout: 300_000 }, withDisks(async () => {
  await cluster.cli('cluster', 'balance', '--wait');
  let load = producers('frozen');
  await allWrite(load);
  const { victim, disk, said } = await busiest();
  const reader = follow(victim);
  const wins = await won(victim);
  const begun = Date.now();
  disk.freeze();
  await until('it leads nothing', async () => await leads(victim) === 0);
  said.led_nothing_after_ms = Date.now() - begun;
  await allWrite(load);
  const counts = [];
  while (Date.now() - begun < FROZEN_MS) {
    counts.push(await leads(victim));
    await sleep(100);
  }
  said.led_while_frozen = Math.max(...counts);
  said.won_while_frozen = await won(victim) - wins;
  await stopAll(load, said);
  await until('its consumer reads on elsewhere', () => reader.count() >= acked.length);
  console.log('stuck', said);
  assert.equal(said.led_while_frozen, 0);
  assert.equal(said.won_while_frozen, 0);

  const back = {};
  load = producers('thawed');
  await allWrite(load);
  const thawed = Date.now();
  disk.thaw();
  await until('it leads again', async () => await leads(victim) > 0);
  back.leads_again_after_ms = Date.now() - thawed;
  await cluster.cli('cluster', 'balance', '--wait');
  back.balanced_after_ms = Date.now() - thawed;
  back.leads = (await Promise.all(cluster.nodes.map(leads))).join(' ');
  await stopAll(load, back);
  console.log('thawed', back);
  await nothingIsLost();
}));

test('a slow disk makes its node slow, and nothing else', { timeout: 300_000 }, withDisks(async () => {
  const load = producers('slow');
  await allWrite(load);
  const { victim, disk, said } = await busiest();
  const wins = await Promise.all(cluster.nodes.map(won));
  disk.slowDown(300);
  await sleep(FROZEN_MS);
  await disk.speedUp();
  await allWrite(load);
  await stopAll(load, said);
  said.elections = (await Promise.all(cluster.nodes.map(won))).map((n, i) => n - wins[i]).join(' ');
  said.leads_after = await leads(victim);
  console.log('slow', said);
  await cluster.cli('cluster', 'balance', '--wait');
  await nothingIsLost();
}));

test('a disk that fails costs its node what it led, and a new one makes it whole', { timeout: 300_000 }, withDisks(async () => {
  const load = producers('failed');
  await allWrite(load);
  const { victim, disk, said } = await busiest();
  const begun = Date.now();
  disk.fail();
  await until('it leads nothing', async () => victim.ended || await leads(victim) === 0);
  said.led_nothing_after_ms = Date.now() - begun;
  await allWrite(load);
  said.node_lives = !victim.ended;
  said.replicas_failed = victim.ended ? undefined : await metric(victim, 'weir_broker_replicas_failed');
  await victim.kill('SIGKILL');
  disk.close();
  disks[cluster.nodes.indexOf(victim)] = Disk.make(join(folder, 'new.disk'), join(victim.dir, 'data'), 512);
  victim.start();
  await until('it is back', () => victim.healthy());
  await cluster.cli('cluster', 'balance', '--wait');
  said.whole_again_after_ms = Date.now() - begun;
  await stopAll(load, said);
  console.log('failed', said);
  await nothingIsLost();
}));
