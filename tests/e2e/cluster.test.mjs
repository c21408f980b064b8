// A cluster that grows, drains, shrinks, replaces a disk and is restarted node by node, while a producer writes: nothing that was
// acknowledged is lost, nothing is stored twice.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { Child } from './lib/child.mjs';
import { Cluster, until, weir } from './lib/cluster.mjs';

const CONFIG = ['node.roles = log', 'log.topic = journal partitions=6', 'log.topic = meta partitions=1 compact=yes',
  'log.free_mib_min = 1'].join('\n');
const RATE = Number(process.env.WEIR_E2E_RATE ?? 2000);
const run = promisify(execFile);

let cluster, producer;
before(async () => {
  cluster = await Cluster.start(CONFIG);
});
after(async () => {
  await cluster?.stop();
});

/** `weir ...` against the cluster as the newest node knows it. */
async function cli(...args) {
  const { stdout } = await run(weir, [...args, '--config', cluster.nodes.at(-1).config],
    { maxBuffer: 1 << 28, timeout: 120_000 });
  return stdout;
}

/** Writes until it is stopped; what it printed, the longest gap among it. */
function produce() {
  const acks = join(cluster.dir, 'acks');
  const child = new Child(weir, ['log', 'produce', 'journal', '--seconds', '600', '--rate', String(RATE), '--size', '100', '--json',
    '--report', '--ack-log', acks, '--config', cluster.nodes[0].config]);
  return {
    process: child,
    acks,
    /** The longest gap between two acknowledgements in the seconds since the last call, ms. */
    gap() {
      const gaps = [...child.err.matchAll(/gap_ms=([\d.]+)/g)].map((m) => Number(m[1]));
      child.err = '';
      return Math.max(0, ...gaps);
    },
    async stop() {
      child.kill('SIGINT');
      await child.ended;
      return { ...JSON.parse(child.out), err: child.err };
    },
  };
}

const gaps = {};
async function step(name, act) {
  const begun = Date.now();
  producer.gap();
  await act();
  gaps[name] = `${producer.gap()} ms in ${((Date.now() - begun) / 1000).toFixed(1)} s`;
}

async function add(name) {
  const node = await cluster.newNode(name, CONFIG);
  node.start();
  await until(`${name} healthy`, () => node.healthy());
  await cli('cluster', 'add', name, `id=${node.id}`,
    ...['peer', 'broker', 'http', 'rtmp'].map((k) => `${k}=127.0.0.1:${node.ports[k]}`), '--wait');
}

async function restart(node, wipe) {
  await node.kill(wipe ? 'SIGKILL' : 'SIGTERM');
  if (wipe) {
    rmSync(join(node.dir, 'data'), { recursive: true });
    cluster.rewrite(node, CONFIG);
  }
  node.start();
  await until(`${node.name} healthy`, () => node.healthy());
  await cli('cluster', 'balance', '--wait');
}

test('a cluster grows, drains, shrinks and is repaired under load', async () => {
  producer = produce();
  await until('the first second', () => producer.gap() > 0);
  await step('add n4', () => add('n4'));
  await step('add n5', () => add('n5'));
  await step('drain n1', () => cli('cluster', 'drain', 'n1', '--wait'));
  await step('remove n1', async () => {
    await cli('cluster', 'remove', 'n1', '--wait');
    await cluster.nodes[0].kill('SIGTERM');
  });
  const [, n2, ...others] = cluster.nodes;
  await step('n2 with an empty disk', () => restart(n2, true));
  for (const n of [n2, ...others]) await step(`restart ${n.name}`, () => restart(n, false));

  const result = await producer.stop();
  console.log({ ...gaps, acked: result.acked, unknown: result.unknown, failed: result.failed,
    longest_ack_gap_ms: result.longest_ack_gap_ms });
  assert.equal(result.failed, 0, result.err);
  assert.equal(result.unknown, 0, result.err);
  const lines = (text) => text.split('\n').filter(Boolean);
  const acked = lines(readFileSync(producer.acks, 'utf8'));
  const read = lines(await cli('log', 'consume', 'journal', '--format', 'crc'));
  const stored = new Set(read);
  assert.equal(acked.length, result.acked);
  assert.deepEqual(acked.filter((line) => !stored.has(line)), [], 'acknowledged and not there');
  assert.equal(read.length, acked.length, 'stored twice');
  await until('all replicas are equal', () => cli('log', 'verify'), 20_000, 500);
});

test('what would harm the cluster is refused', async () => {
  const refused = async (pattern, ...args) => {
    await assert.rejects(cli('cluster', ...args), (e) => pattern.test(e.stderr) || assert.fail(e.stderr));
  };
  const [, n2] = cluster.nodes;
  const at = ['peer=127.0.0.1:1', 'broker=127.0.0.1:1', 'http=127.0.0.1:1', 'rtmp=127.0.0.1:1'];
  await refused(/there is no node n9/, 'drain', 'n9');
  await refused(/not drained/, 'remove', 'n2');
  await refused(/is alive/, 'remove', 'n2', '--dead');
  await refused(/n6 can't be reached/, 'add', 'n6', 'id=6', ...at);
  await refused(/at .* is node n2 with id 2, not n6 with id 6/, 'add', 'n6', 'id=6', at[0], `broker=127.0.0.1:${n2.ports.broker}`,
    at[2], at[3]);
  await refused(/id 1 was that of node n1/, 'add', 'n7', 'id=1', 'log=no', ...at);
  await cli('cluster', 'drain', 'n2', '--wait');
  await refused(/2 nodes for 3 replicas/, 'drain', 'n3');
});
