// What an operator does to consumer groups from the command line, and a command that knows one broker only.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { Child } from './lib/child.mjs';
import { Cluster, until, weir } from './lib/cluster.mjs';

const CONFIG = 'node.roles = log\nlog.free_mib_min = 64\nlog.topic = events partitions=3\nlog.topic = one partitions=1\n' +
  'log.topic = groups partitions=1\nlog.topic = meta partitions=1';
let cluster;

before(async () => { cluster = await Cluster.start(CONFIG); });
after(() => cluster?.stop());

function produce(topic, lines, ...more) {
  const p = promisify(execFile)(weir, ['log', 'produce', topic, ...more, '--config', cluster.nodes[0].config]);
  p.child.stdin.end(lines.map((l) => `${l}\n`).join(''));
  return p;
}

const consume = async (topic, ...more) => (await cluster.cli('log', 'consume', topic, ...more)).split('\n').filter(Boolean);
const group = async (name) => JSON.parse(await cluster.cli('log', 'groups', name, '--json'));
const set = async (name, ...settings) =>
  JSON.parse(await cluster.cli('log', 'groups', name, '--json', ...settings.flatMap((s) => ['--set', s])));

test('a command that is given one broker asks all of them', async () => {
  await produce('events', Array.from({ length: 300 }, (_, i) => `line ${i}`));
  const secret = join(cluster.dir, 'secret');
  writeFileSync(secret, `${cluster.secret}\n`);
  for (const n of cluster.nodes) {
    const ask = async (...args) => (await promisify(execFile)(weir,
      [...args, '--brokers', `127.0.0.1:${n.ports.broker}`, '--secret-file', secret])).stdout;
    const lines = (await ask('log', 'consume', 'events', '--from-time', '2020-01-01T00:00:00Z')).split('\n').filter(Boolean);
    assert.equal(lines.length, 300);
    const replicas = JSON.parse(await ask('log', 'describe', 'events', '--json'));
    assert.deepEqual([...new Set(replicas.map((r) => r.node))].sort(), ['n1', 'n2', 'n3']);
    await ask('log', 'verify', 'events');
  }
});

test('a group goes on where it is set, and is forgotten when it is deleted', async () => {
  const values = Array.from({ length: 100 }, (_, i) => `value ${i}`);
  await produce('one', values.slice(0, 50));
  const between = new Date().toISOString();
  await produce('one', values.slice(50));
  assert.deepEqual(await consume('one', '--group', 'g'), values);
  assert.deepEqual(await consume('one', '--group', 'g'), []);

  assert.deepEqual(await set('g', 'one/0=30'), { group: 'g', partitions: [{ topic: 'one', partition: 0, before: 100, after: 30 }] });
  assert.equal((await group('g')).partitions[0].committed, 30);
  assert.deepEqual(await consume('one', '--group', 'g'), values.slice(30));
  await set('g', 'one=begin');
  assert.deepEqual(await consume('one', '--group', 'g'), values);
  await set('g', `one=time:${between}`);
  assert.deepEqual(await consume('one', '--group', 'g'), values.slice(50));
  await set('g', 'one=begin', 'one/0=end'); // the last one counts
  assert.deepEqual(await consume('one', '--group', 'g'), []);

  const all = await set('new', 'events=begin', 'one=end');
  assert.deepEqual(all.partitions.map((p) => [p.topic, p.partition, p.before]),
    [['events', 0, null], ['events', 1, null], ['events', 2, null], ['one', 0, null]]);

  await cluster.cli('log', 'groups', 'g', '--delete');
  await assert.rejects(group('g'), (e) => e.code === 1 && /no such group/.test(e.stderr));
  await assert.rejects(cluster.cli('log', 'groups', 'g', '--delete'), /no such group/);
  assert.deepEqual(await consume('one', '--group', 'g'), values);
});

test('what makes no sense is refused, and nothing is changed', async () => {
  const refused = (code, says, ...args) => assert.rejects(cluster.cli('log', 'groups', ...args),
    (e) => e.code === code && says.test(e.stderr));
  const before = await group('new');
  await refused(1, /holds 0 to 100: 101 is not in it/, 'new', '--set', 'one/0=101');
  await refused(1, /no topic 'nowhere'/, 'new', '--set', 'one=begin', '--set', 'nowhere=begin');
  await refused(1, /partitions 0 to 2/, 'new', '--set', 'events/3=begin');
  await refused(1, /a group's name/, 'not/a/name', '--set', 'one=begin');
  await refused(2, /--set/, 'new', '--set', 'one=soon');
  await refused(2, /--set/, 'new', '--set', 'one');
  await refused(2, /which GROUP/, '--delete');
  await refused(2, /--set or --delete/, 'new', '--delete', '--set', 'one=begin');
  assert.deepEqual(await group('new'), before);
});

test('a group with members is left alone, also by a coordinator that has not heard of them yet', async () => {
  const member = new Child(weir, ['log', 'consume', 'events', '--group', 'busy', '--follow', '--config', cluster.nodes[0].config],
    { stdio: 'ignore' });
  try {
    await until('it has all partitions', async () => {
      const g = await group('busy');
      return g.lag === 0 && g.partitions.length === 3 && g.partitions.every((p) => p.member && p.committed >= 0);
    });
    const refused = () => assert.rejects(cluster.cli('log', 'groups', 'busy', '--set', 'events=begin'),
      (e) => e.code === 1 && /has members/.test(e.stderr));
    await refused();
    await assert.rejects(cluster.cli('log', 'groups', 'busy', '--delete'), /has members/);
    const replicas = JSON.parse(await cluster.cli('log', 'describe', 'groups', '--json'));
    const coordinator = cluster.nodes.find((n) => n.name === replicas.find((r) => r.leading).node);
    await coordinator.kill();
    await refused();
    coordinator.start();
    await until('it is back', () => coordinator.healthy());
  } finally {
    member.kill('SIGTERM');
    await member.ended;
  }
  await set('busy', 'events=begin');
  assert.equal((await consume('events', '--group', 'busy')).length, 300);
});
