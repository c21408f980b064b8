// One node, for development: everything works, and all of it is there after a stop and a kill. It may only not fail.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { Chat } from './lib/chat.mjs';
import { Cluster, until, weir } from './lib/cluster.mjs';

const CONFIG = ['log.free_mib_min = 64', 'log.topic = mine partitions=2',
  ...['chat partitions=2', 'lifecycle partitions=2', 'ledger partitions=2', 'accounts partitions=1', 'meta partitions=1'].map((t) => `log.topic = ${t}`)].join('\n');

test('a cluster of one node keeps what it is told through a stop and a kill', { timeout: 180_000 }, async () => {
  const cluster = await Cluster.start(CONFIG, undefined, 1);
  const [n1] = cluster.nodes;
  const produced = [];
  const said = [];
  const produce = async (...lines) => {
    const p = promisify(execFile)(weir, ['log', 'produce', 'mine', '--config', n1.config]);
    p.child.stdin.end(lines.map((l) => `${l}\n`).join(''));
    await p;
    produced.push(...lines);
  };
  const values = async (...more) => (await cluster.cli('log', 'consume', 'mine', ...more)).split('\n').filter(Boolean).sort();
  const say = async (token, text) => {
    const chat = await Chat.open(n1.ws, { token, room: 'bob' });
    assert.equal((await chat.send(text)).type, 'ack');
    said.push(text);
    await chat.close();
  };
  try {
    assert.match(readFileSync(n1.log, 'utf8'), /few_nodes/);
    const { token } = await cluster.user('alice');
    await cluster.channel('bob');
    for (const signal of ['SIGTERM', 'SIGKILL']) {
      await produce(`a before ${signal}`, `b before ${signal}`, `c before ${signal}`);
      await say(token, `before ${signal}`);
      await n1.kill(signal);
      n1.start();
      await until('it is back', () => n1.healthy());
      assert.deepEqual(await values(), [...produced].sort());
      const chat = await Chat.open(n1.ws, { token, room: 'bob', history: 50 });
      const { items } = await chat.wait((m) => m.type === 'history');
      assert.deepEqual(items.map((m) => m.text), said);
      await chat.close();
    }
    assert.deepEqual(await values('--group', 'g'), [...produced].sort());
    assert.deepEqual(await values('--group', 'g'), []);
    const status = JSON.parse(await cluster.cli('cluster', 'status', '--json'));
    assert.equal(status.nodes.length, 1);
    await cluster.cli('log', 'verify');
  } finally {
    await cluster.stop();
  }
});
