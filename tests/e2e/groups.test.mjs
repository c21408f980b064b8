// A consumer group of three on three real nodes: while records come, one consumer is killed and so is the node that coordinates the group. Every
// record is consumed, and what is committed is right. WEIR_GROUP_RECORDS: how many (300,000).
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Child } from './lib/child.mjs';
import { Cluster, until, weir } from './lib/cluster.mjs';

const RECORDS = Number(process.env.WEIR_GROUP_RECORDS ?? 300_000);
const PARTITIONS = 6;
const TOPIC = 'events';
const GROUP = 'readers';
const CONFIG = `node.roles = log\nlog.free_mib_min = 64\nlog.topic = ${TOPIC} partitions=${PARTITIONS}\nlog.topic = groups partitions=1\n` +
  'log.topic = meta partitions=1';
const patienceMs = 60_000 + RECORDS / 50;

function consumer(cluster, name, ...more) {
  const file = join(cluster.dir, `${name}.out`);
  const out = openSync(file, 'w');
  const err = openSync(`${file}.err`, 'w');
  const child = new Child(weir, ['log', 'consume', TOPIC, '--group', GROUP, '--format', 'crc', '--follow', '--session', '5000', ...more,
    '--config', cluster.nodes[0].config], { stdio: ['ignore', out, err] });
  closeSync(out);
  closeSync(err);
  return { child, file, ended: child.ended, errors: () => readFileSync(`${file}.err`, 'utf8') };
}

/** Counts each 'partition offset crc' line of a file in `seen`; the last one may have been cut by a kill. */
function count(file, seen) {
  const chunk = Buffer.alloc(1 << 22);
  const fd = openSync(file, 'r');
  let rest = '';
  let lines = 0;
  for (let n = readSync(fd, chunk); n > 0; n = readSync(fd, chunk)) {
    const parts = (rest + chunk.latin1Slice(0, n)).split('\n');
    rest = parts.pop();
    for (const line of parts) {
      const [partition, offset] = line.split(' ', 2).map(Number);
      seen[partition][offset]++;
    }
    lines += parts.length;
  }
  closeSync(fd);
  return lines;
}

const rssMib = (pid) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;

/** Memory of the nodes once a second, in MiB. */
function watchMemory(cluster) {
  const samples = [];
  const timer = setInterval(() => {
    samples.push(cluster.nodes.map((n) => {
      try {
        return n.ended ? 0 : Math.round(rssMib(n.process.pid));
      } catch {
        return 0; // it died just now
      }
    }));
  }, 1000);
  return { samples, stop: () => clearInterval(timer) };
}

/** Those that began behind a restart begin anew: only the last stretch of each node counts. */
function assertFlat(samples, names) {
  names.forEach((name, i) => {
    const all = samples.map((s) => s[i]);
    const life = all.slice(all.lastIndexOf(0) + 1);
    const early = Math.max(...life.slice(0, Math.ceil(life.length / 2)));
    const late = Math.max(...life.slice(Math.ceil(life.length / 2)));
    assert.ok(late <= early * 1.25 + 64, `${name}: ${early} MiB, later ${late} MiB`);
  });
}

test('a group consumes every record though a consumer and its coordinator are killed', { timeout: 120_000 + RECORDS / 10 }, async (t) => {
  const cluster = await Cluster.start(CONFIG);
  const memory = watchMemory(cluster);
  const begun = Date.now();
  const consumers = [];
  try {
    const group = async () => JSON.parse(await cluster.cli('log', 'groups', GROUP, '--json'));
    for (let i = 0; i < 3; i++) consumers.push(consumer(cluster, `consumer${i}`));
    await until('three members with two partitions each', async () => {
      const g = await group();
      return g.members === 3 && g.partitions.length === PARTITIONS && g.partitions.every((p) => p.member);
    });
    const producer = cluster.cli('log', 'produce', TOPIC, '--records', String(RECORDS), '--size', '100', '--window', '16384',
      ...(RECORDS <= 1_000_000 ? ['--rate', '60000'] : []), '--timeout', '60000');
    const produced = async () => (await group()).partitions.reduce((n, p) => n + p.committed, 0);
    await until('a third is consumed', async () => (await produced()) > RECORDS / 3, patienceMs);
    consumers[0].child.kill('SIGKILL');
    await until('half is consumed', async () => (await produced()) > RECORDS / 2, patienceMs);
    const replicas = JSON.parse(await cluster.cli('log', 'describe', 'groups', '--json'));
    const coordinator = cluster.nodes.find((n) => n.name === replicas.find((r) => r.leading).node);
    await coordinator.kill();
    const failover = Date.now();
    await producer;
    coordinator.start();
    await until('all is back', () => coordinator.healthy());
    const last = await until('nothing is left', async () => {
      const g = await group();
      return g.lag === 0 && g.members === 2 && g.partitions.every((p) => p.member && p.end >= 0) && g;
    }, patienceMs, 500);
    t.diagnostic(`${RECORDS} records in ${(Date.now() - begun) / 1000} s, ${(Date.now() - failover) / 1000} s after the coordinator's death`);
    for (const c of consumers.slice(1)) {
      c.child.kill('SIGTERM');
      assert.deepEqual(await c.ended, { code: 0, signal: null }, c.errors());
    }
    const seen = last.partitions.map((p) => new Uint8Array(p.end));
    const lines = consumers.reduce((n, c) => n + count(c.file, seen), 0);
    const total = last.partitions.reduce((n, p) => n + p.end, 0);
    assert.equal(total, RECORDS);
    for (const p of last.partitions) assert.equal(seen[p.partition].indexOf(0), -1, `partition ${p.partition}: a record is missing`);
    t.diagnostic(`${lines - total} records were consumed again`);
    const after = await group();
    assert.equal(after.members, 0);
    assert.equal(after.lag, 0);
    memory.stop();
    t.diagnostic(`memory of ${cluster.nodes.map((n) => n.name)}, MiB each second: ${memory.samples.map((s) => s.join('/')).join(' ')}`);
    if (RECORDS > 2_000_000) assertFlat(memory.samples, cluster.nodes.map((n) => n.name));
  } finally {
    memory.stop();
    for (const c of consumers) c.child.kill('SIGKILL');
    await cluster.stop();
  }
});
