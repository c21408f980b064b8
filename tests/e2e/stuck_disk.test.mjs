// A node with a stuck disk must not hold leaderships. Three nodes, each on an ext4 image of its own; under load the disk of the node that leads
// most is frozen: the others take over, it wins nothing, and after the thaw it follows, catches up and leads its share again.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Cluster, sleep, until, weir } from './lib/cluster.mjs';
import { Disk } from './lib/disk.mjs';
import { Producer, audit } from './lib/producer.mjs';

const PARTITIONS = 6;
const FROZEN_MS = Number(process.env.WEIR_FROZEN_MS ?? 8000);
const CONFIG = ['node.roles = log', 'log.free_mib_min = 16', `log.topic = busy partitions=${PARTITIONS}`, 'log.topic = idle partitions=6',
  'log.topic = groups partitions=1', 'log.topic = meta partitions=1'].join('\n');

let folder, cluster;
const disks = [];
const readers = [];

before(async () => {
  folder = mkdtempSync(join(process.env.WEIR_E2E_DIR ?? tmpdir(), 'weir-stuck-'));
  cluster = await Cluster.start(CONFIG, folder, 3, {
    prepare(node) {
      const disk = Disk.make(join(folder, `${node.name}.image`), join(node.dir, 'data'), 512);
      if (disk) disks.push(disk);
    },
  });
});
after(async () => {
  for (const r of readers) r.kill('SIGKILL');
  for (const d of disks) d.thaw();
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
  const child = spawn(weir, ['log', 'consume', 'busy', '--follow', '--format', 'crc', '--brokers', brokers, '--secret-file', secret],
    { stdio: ['ignore', 'pipe', 'inherit'] });
  let n = 0;
  child.stdout.on('data', (d) => { n += d.toString('latin1').split('\n').length - 1; });
  readers.push(child);
  return { count: () => n };
}

const acked = [];
async function stopAll(load, said) {
  const results = await Promise.all(load.map((p) => p.stop()));
  for (const r of results) {
    assert.equal(r.failed, 0, r.err);
    assert.equal(r.unknown, 0, r.err);
    acked.push(...r.lines);
  }
  said.longest_gap_ms = results.map((r) => r.longest_ack_gap_ms);
  said.acked = results.reduce((n, r) => n + r.acked, 0);
}
const allWrite = (load) => {
  const before = load.map((p) => p.acked());
  return until('every partition acknowledges', () => load.every((p, i) => p.acked() > before[i]), 60_000);
};

test('a node whose disk is stuck gives up what it leads, and comes back', { timeout: 300_000 }, async (t) => {
  if (disks.length < 3) {
    t.diagnostic('no loop devices here: no disk to freeze');
    return;
  }
  await cluster.cli('cluster', 'balance', '--wait');
  let load = producers('frozen');
  await allWrite(load);
  const led = (JSON.parse(await cluster.cli('cluster', 'status', '--json'))).partitions.filter((p) => p.topic === 'busy')
    .map((p) => p.leader);
  const victim = cluster.nodes.toSorted((a, b) => led.filter((l) => l === b.name).length - led.filter((l) => l === a.name).length)[0];
  const said = { leaders: led.join(' '), victim: victim.name };
  const reader = follow(victim);
  const wins = await won(victim);
  const begun = Date.now();
  disks[cluster.nodes.indexOf(victim)].freeze();
  said.freeze_ms = Date.now() - begun;
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
  console.log('frozen', said);
  assert.equal(said.led_while_frozen, 0);
  assert.equal(said.won_while_frozen, 0);

  const back = {};
  load = producers('thawed');
  await allWrite(load);
  const thawed = Date.now();
  disks[cluster.nodes.indexOf(victim)].thaw();
  await until('it leads again', async () => await leads(victim) > 0);
  back.leads_again_after_ms = Date.now() - thawed;
  await cluster.cli('cluster', 'balance', '--wait');
  back.leads = await Promise.all(cluster.nodes.map(leads));
  back.balanced_after_ms = Date.now() - thawed;
  await stopAll(load, back);
  console.log('thawed', back);
  const { lost, doubled, stored } = await audit(cluster.nodes[0].config, 'busy', acked);
  console.log({ acked: acked.length, stored, lost: lost.length, doubled: doubled.length });
  assert.deepEqual([lost, doubled], [[], []]);
  await until('all replicas are equal', () => cluster.cli('log', 'verify'), 30_000, 500);
});
