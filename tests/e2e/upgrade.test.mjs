// Two versions together: a cluster of the program WEIR_OTHER is upgraded node by node under load, by programs of both versions. Nothing is lost or
// stored twice, and all replicas are equal at every step. `./dev upgrade COMMIT` builds that commit and runs this; without WEIR_OTHER there is
// nothing to do: golden files and wire versions are checked by the unit tests.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Cluster, sleep, until, weir } from './lib/cluster.mjs';
import { Producer, audit, count } from './lib/producer.mjs';

const OTHER = process.env.WEIR_OTHER;
const MIXED_MS = Number(process.env.WEIR_MIXED_MS ?? 3000);
const CONFIG = ['node.roles = log', 'log.free_mib_min = 1', 'log.topic = new partitions=4', 'log.topic = old partitions=4', 'log.topic = kept partitions=1 compact=yes',
  'log.topic = groups partitions=1', 'log.topic = meta partitions=1 compact=yes'].join('\n');

async function upgrade(cluster, node, program) {
  await node.kill('SIGTERM');
  node.program = program;
  node.start();
  await until(`${node.name} healthy`, () => node.healthy());
  await until('the cluster is balanced', () => cluster.cli('cluster', 'balance', '--wait'));
}

test('a cluster of another version is upgraded node by node under load', { timeout: 300_000 }, async (t) => {
  if (!OTHER || !existsSync(OTHER)) {
    t.diagnostic('no other version here (WEIR_OTHER): ./dev upgrade COMMIT');
    return;
  }
  const cluster = await Cluster.start(CONFIG, undefined, 3, { prepare: (node) => { node.program = OTHER; } });
  const config = cluster.nodes[0].config;
  const load = [];
  try {
    await until('the cluster is balanced', () => cluster.cli('cluster', 'balance', '--wait'));
    load.push(new Producer(config, 'new', join(cluster.dir, 'acks.new'), '--rate', '1000', '--window', '8192', '--timeout', '30000'),
      new Producer(config, 'old', join(cluster.dir, 'acks.old'), { program: OTHER }, '--rate', '1000', '--window', '8192', '--timeout', '30000'));
    // Compaction goes on meanwhile: replicas of both versions tell one another how far they are.
    load.push(new Producer(config, 'kept', join(cluster.dir, 'acks.kept'), '--key', 'k', '--rate', '4000', '--size', '1000', '--window', '8192',
      '--timeout', '30000'));
    await until('all write', () => load.every((p) => p.acked() > 0));
    for (const node of cluster.nodes) {
      const before = load.map((p) => p.acked());
      await upgrade(cluster, node, weir);
      await until('all write on', () => load.every((p, i) => p.acked() > before[i]));
      await sleep(MIXED_MS);
    }
    const [ours, theirs, kept] = await Promise.all(load.map((p) => p.stop()));
    for (const r of [ours, theirs, kept]) assert.deepEqual([r.failed, r.unknown], [0, 0], r.err);
    const found = await audit(config, 'new', ours.lines);
    assert.deepEqual([found.lost, found.doubled], [[], []]);
    const there = await count(config, 'old', theirs.lines);
    assert.deepEqual(there.lost, []);
    assert.equal(there.stored, theirs.acked, 'stored twice');
    await until('all replicas are equal', () => cluster.cli('log', 'verify'), 30_000, 500);
    t.diagnostic(`by this version ${ours.acked} acknowledged, longest gap ${ours.longest_ack_gap_ms} ms; by the other ${theirs.acked}, ` +
      `${theirs.longest_ack_gap_ms} ms; 0 lost, 0 doubled`);
    const misread = cluster.nodes.map((n) => readFileSync(n.log, 'utf8').split('\n').filter((l) => /peer_link_closed/.test(l) &&
      !/Connection re|closed|silent|end of/.test(l))).flat();
    assert.deepEqual(misread, [], 'nodes that do not understand one another');
    for (const n of cluster.nodes) assert.equal(n.ended, undefined, `${n.name} runs`);
  } finally {
    for (const p of load) p.kill();
    await cluster.stop();
  }
});
