// A topic for a running cluster: a rolling restart with one line more in each configuration, while another topic is written to. A node that joined
// gets the topic too, and nobody starts with another number of partitions.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { Cluster, until, weir } from './lib/cluster.mjs';

const CONFIG = 'node.roles = log\nlog.free_mib_min = 64\nlog.topic = old partitions=2\nlog.topic = groups partitions=1\nlog.topic = meta partitions=1';
const WITH = `${CONFIG}\nlog.topic = new partitions=4`;

test('a topic is added by a rolling restart', { timeout: 240_000 }, async () => {
  const cluster = await Cluster.start(CONFIG);
  const produce = async (topic, n, ...more) => {
    const p = promisify(execFile)(weir, ['log', 'produce', topic, '--config', cluster.nodes[0].config, ...more]);
    p.child.stdin.end(Array.from({ length: n }, (_, i) => `${topic} ${i}\n`).join(''));
    await p;
  };
  const lines = async (topic) => (await cluster.cli('log', 'consume', topic)).split('\n').filter(Boolean).length;
  try {
    const n4 = await cluster.newNode('n4', CONFIG);
    n4.start();
    await until('n4 listens', () => n4.healthy());
    await cluster.cli('cluster', 'add', 'n4', 'id=4', ...['peer', 'broker', 'http', 'rtmp'].map((k) => `${k}=127.0.0.1:${n4.ports[k]}`), '--wait',
      '--timeout', '60000');
    await produce('old', 500);
    const load = cluster.cli('log', 'produce', 'old', '--records', '20000', '--size', '100', '--rate', '2000', '--timeout', '60000');
    for (const n of cluster.nodes) {
      cluster.rewrite(n, n === n4 ? `cluster.join = yes\n${WITH}` : WITH);
      await n.kill('SIGTERM');
      n.start();
      await until(`${n.name} is back`, () => n.healthy());
    }
    await load;
    const replicas = await until('the topic has leaders', async () => {
      const all = JSON.parse(await cluster.cli('log', 'describe', 'new', '--json'));
      return all.filter((r) => r.leading).length === 4 && all;
    });
    assert.ok(replicas.some((r) => r.node === 'n4'), 'the node that joined has a share');
    await produce('new', 1000);
    await cluster.cli('cluster', 'balance', '--wait', '--timeout', '60000');
    assert.equal(await lines('new'), 1000);
    assert.equal(await lines('old'), 20_500);
    await cluster.cli('log', 'verify');

    const [, n2] = cluster.nodes;
    cluster.rewrite(n2, `${CONFIG}\nlog.topic = new partitions=5`);
    await n2.kill('SIGTERM');
    n2.start();
    assert.notEqual((await n2.exited).code, 0);
    assert.match(n2.logTail(), /log.topic new partitions=5: the cluster has it with 4/);
    cluster.rewrite(n2, WITH);
    n2.start();
    await until('n2 is back', () => n2.healthy());
    await produce('new', 10);
    assert.equal(await lines('new'), 1010);
  } finally {
    await cluster.stop();
  }
});
