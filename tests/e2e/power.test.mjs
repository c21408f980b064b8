// Power failure of all three nodes at once, under load: what was acknowledged is there afterwards. Each node has a disk of its own that keeps only
// what was flushed and any part, to the sector, of the rest (lib/power.mjs); names of files are lost unless their folder was synced (tests/power/names.c).
// `./dev power --rounds N` goes on for longer, `./dev power --faults` shows that this test finds programs that do not sync:
//   WEIR_POWER_ROUNDS: how often (2). WEIR_FAULTS: faults of build-faults/weir (base/fault.h); the test then passes when something is lost.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { Cluster, sleep, until, weir } from './lib/cluster.mjs';
import { PowerDisk, forgetKept, loseNames } from './lib/power.mjs';
import { Producer, audit } from './lib/producer.mjs';

const ROUNDS = Number(process.env.WEIR_POWER_ROUNDS ?? 2);
const FAULTS = process.env.WEIR_FAULTS;
const MIB = 320;
const PATIENCE_MS = 20_000;
const KEEPS = [0, 0.5, 0.95]; // of what was not flushed, in turn
const TOPIC = 'journal';
const CONFIG = ['node.roles = log', 'log.free_mib_min = 4', `log.topic = ${TOPIC} partitions=6`, 'log.topic = groups partitions=1',
  'log.topic = meta partitions=1'].join('\n');

async function powerFails(cluster, disks, keeps) {
  for (const n of cluster.nodes) n.process.kill('SIGKILL');
  await Promise.all(cluster.nodes.map((n) => n.exited));
  const lost = { sectors: 0, names: 0 };
  for (const [i, disk] of disks.entries()) {
    lost.sectors += disk.cut(keeps);
    lost.names += loseNames(cluster.nodes[i].names, keeps);
    forgetKept(disk.at);
  }
  return lost;
}

/** The cluster is up and its records can be read, or not in time. */
async function audited(cluster, acked) {
  for (const n of cluster.nodes) n.start();
  return until('the records', async () => {
    for (const n of cluster.nodes) await n.healthy();
    await cluster.cli('cluster', 'status');
    return audit(cluster.nodes[0].config, TOPIC, acked);
  }, PATIENCE_MS, 300);
}

async function rounds(t, cluster, disks, folder, so) {
  const acked = [];
  for (let round = 1; round <= ROUNDS; round++) {
    const producer = new Producer(cluster.nodes[0].config, TOPIC, join(folder, `acks.${round}`), '--rate', '20000', '--window', '8192',
      '--timeout', '1500');
    await until('acknowledgements', () => producer.acked() > 0).catch((e) => { producer.kill(); throw e; });
    await sleep(300 + 150 * (round % 7));
    const lost = await powerFails(cluster, disks, KEEPS[round % KEEPS.length]).catch((e) => { producer.kill(); throw e; });
    const { lines } = await producer.stop();
    acked.push(...lines);
    so.far = acked.length; // from here on a failure is the power's
    t.diagnostic(`round ${round}: ${lines.length} acknowledged, ${acked.length} in all; ${lost.sectors} sectors and ${lost.names} names were not synced`);
    const found = await audited(cluster, acked);
    t.diagnostic(`round ${round}: ${found.stored} stored, ${found.lost.length} lost, ${found.doubled.length} doubled`);
    assert.deepEqual([found.lost, found.doubled], [[], []]);
  }
  await until('all replicas are equal', () => cluster.cli('log', 'verify'), PATIENCE_MS, 500);
}

test('what was acknowledged is there after the power of all nodes failed', { timeout: 120_000 + ROUNDS * 60_000 }, async (t) => {
  const folder = mkdtempSync(join(process.env.WEIR_E2E_DIR ?? tmpdir(), 'weir-power-'));
  const disks = [];
  let cluster, found;
  const so = { far: 0 };
  try {
    cluster = await Cluster.start(CONFIG, folder, 3, {
      prepare(node) {
        const at = join(node.dir, 'disk');
        const disk = PowerDisk.make(join(folder, `${node.name}.power`), at, MIB);
        if (!disk) return;
        disks.push(disk);
        node.names = join(folder, `${node.name}.names`);
        node.env = { LD_PRELOAD: join(dirname(weir), 'libweir_names.so'), WEIR_NAMES_LOG: node.names, WEIR_NAMES_DIR: at };
        if (FAULTS) node.program = join(dirname(dirname(weir)), 'build-faults', 'weir');
        node.data = join(at, 'data');
        cluster = node.cluster;
        writeFileSync(node.config, cluster.configOf(node, CONFIG));
      },
    });
    if (disks.length < 3) {
      t.diagnostic('no loop devices here: no disk to cut the power of');
      return;
    }
    await rounds(t, cluster, disks, folder, so);
  } catch (e) {
    found = e;
    if (!FAULTS || so.far === 0) throw e;
  } finally {
    await cluster?.stop(() => disks.forEach((d) => d.close()));
    rmSync(folder, { recursive: true, force: true });
  }
  if (FAULTS) {
    assert.ok(found, `nothing was lost with ${FAULTS}`);
    t.diagnostic(`${FAULTS}: ${found.message.slice(0, 200)}`);
  }
});
