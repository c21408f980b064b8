// Nodes whose log runs on three loop threads each: produced, consumed by a group, killed, restarted, grown and drained. Nothing that was acknowledged is
// lost or stored twice, and each shard's replicas end up equal.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { Child } from './lib/child.mjs';
import { Cluster, until, weir } from './lib/cluster.mjs';

const SHARDS = 3;
const TOPIC = 'journal';
const PARTITIONS = 6;
const CONFIG = ['node.roles = log', `log.shards = ${SHARDS}`, `log.topic = ${TOPIC} partitions=${PARTITIONS}`, 'log.topic = meta partitions=1',
  'log.free_mib_min = 1'].join('\n');
const run = promisify(execFile);

let cluster;
before(async () => {
  cluster = await Cluster.start(CONFIG, undefined, 3, { shards: SHARDS });
});
after(async () => {
  await cluster?.stop();
});

/** `weir ...` against the cluster as the newest node knows it. */
async function cli(...args) {
  const { stdout } = await run(weir, [...args, '--config', cluster.nodes.at(-1).config], { maxBuffer: 1 << 28, timeout: 120_000 });
  return stdout;
}

/** A command that runs on; its output, and how it ends. */
function background(...args) {
  return new Child(weir, [...args, '--config', cluster.nodes[0].config]);
}

const lines = (text) => text.split('\n').filter(Boolean);
const group = async () => JSON.parse(await cli('log', 'groups', 'readers', '--json'));

test('records of all shards are written, consumed by a group and kept, whoever dies, comes or goes', async (t) => {
  const acks = join(cluster.dir, 'acks');
  const producer = background('log', 'produce', TOPIC, '--seconds', '600', '--rate', '2000', '--size', '100', '--json', '--ack-log', acks);
  const consumer = background('log', 'consume', TOPIC, '--group', 'readers', '--format', 'crc', '--follow');
  await until('all partitions are consumed', async () => {
    const g = await group();
    return g.partitions.length === PARTITIONS && g.partitions.every((p) => p.committed > 0);
  });
  for (const node of cluster.nodes) {
    await node.kill('SIGKILL');
    node.start();
    await until(`${node.name} healthy`, () => node.healthy());
    await cli('cluster', 'balance', '--wait');
  }
  const n4 = await cluster.newNode('n4', CONFIG);
  n4.start();
  await until('n4 healthy', () => n4.healthy());
  await cli('cluster', 'add', 'n4', 'id=4', ...['peer', 'broker', 'http', 'rtmp'].map((k) => `${k}=127.0.0.1:${n4.ports[k]}`), '--wait');
  await cli('cluster', 'drain', 'n1', '--wait');
  const folders = readdirSync(join(cluster.nodes[0].dir, 'data/log'));
  await until('n1 has deleted what went elsewhere', () => folders.filter((f) => !f.startsWith('meta-'))
    .every((f) => readdirSync(join(cluster.nodes[0].dir, 'data/log', f)).length === 0));
  await cli('cluster', 'remove', 'n1', '--wait');
  await cluster.nodes[0].kill('SIGTERM');

  producer.kill('SIGINT');
  await producer.ended;
  const result = JSON.parse(producer.out);
  t.diagnostic(`${result.acked} acknowledged, longest gap ${result.longest_ack_gap_ms} ms`);
  assert.equal(result.failed, 0, producer.err);
  assert.equal(result.unknown, 0, producer.err);
  const acked = lines(readFileSync(acks, 'utf8'));
  const read = lines(await cli('log', 'consume', TOPIC, '--format', 'crc'));
  const stored = new Set(read);
  assert.deepEqual(acked.filter((line) => !stored.has(line)), [], 'acknowledged and not there');
  assert.equal(read.length, acked.length, 'stored twice');
  await until('the group has consumed all', async () => (await group()).lag === 0);
  consumer.kill('SIGTERM');
  await consumer.ended;
  const consumed = new Set(lines(consumer.out));
  assert.deepEqual(acked.filter((line) => !consumed.has(line)), [], 'not consumed');
  await until('all replicas are equal', () => cli('log', 'verify'), 20_000, 500);
});

test('each shard has its own votes, and commands see all of them', async () => {
  const [, n2] = cluster.nodes;
  const data = readdirSync(join(n2.dir, 'data'));
  for (const name of ['votes', 'votes-1', 'votes-2']) assert.ok(data.includes(name), `${name} among ${data}`);
  const replicas = JSON.parse(await cli('log', 'describe', TOPIC, '--json'));
  assert.equal(replicas.length, 3 * PARTITIONS);
  assert.equal(replicas.filter((r) => r.leading).length, PARTITIONS);
  const scrub = JSON.parse(await cli('log', 'scrub', '--json'));
  assert.equal(scrub.damaged ?? 0, 0);
});

test('a node whose shards would meet those of another is refused', async () => {
  const [, n2] = cluster.nodes;
  const at = (peer, broker) => ['http=127.0.0.1:1', 'rtmp=127.0.0.1:1', `peer=127.0.0.1:${peer}`, `broker=127.0.0.1:${broker}`];
  const refused = (pattern, ...args) => assert.rejects(cli('cluster', 'add', 'n2', 'id=2', ...args), (e) => pattern.test(e.stderr) || assert.fail(e.stderr));
  await refused(/leave no room for 3 shards, 1000 apart/, ...at(n2.ports.broker + 1000, n2.ports.broker));
  await refused(/leave no room for 3 shards, 1000 apart/, ...at(cluster.nodes[2].ports.peer + 2000, n2.ports.broker));
  await refused(/no room above ports/, ...at(64_000, n2.ports.broker));
});

test('another number of shards is refused', async () => {
  const [, n2] = cluster.nodes;
  await n2.kill('SIGTERM');
  cluster.rewrite(n2, CONFIG.replace(`log.shards = ${SHARDS}`, 'log.shards = 2'));
  n2.start();
  const { code } = await n2.exited;
  assert.notEqual(code, 0);
  assert.match(n2.logTail(), /log\.shards: 2, but data folder .* was made with 3/);
  cluster.rewrite(n2, CONFIG);
  n2.start();
  await until('n2 healthy', () => n2.healthy());
});
