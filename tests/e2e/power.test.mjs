// Power failure of all three nodes at once, under load: what was acknowledged is there afterwards. The nodes' data are on an ext4 image; all processes
// are killed and the image copied at once, so that what was not synced (data, names of files) is not in the copy; the cluster goes on from the copy.
// WEIR_POWER_ROUNDS: how often (2).
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Cluster, sleep, weir } from './lib/cluster.mjs';

const ROUNDS = Number(process.env.WEIR_POWER_ROUNDS ?? 2);
const IMAGE_MIB = 1536;
const TOPIC = 'journal';
const CONFIG = `node.roles = log\nlog.free_mib_min = 16\nlog.topic = ${TOPIC} partitions=6\nlog.topic = groups partitions=1\nlog.topic = meta partitions=1`;

const canMount = process.getuid() === 0 && existsSync('/dev/loop-control');
const mount = (image, at) => execFileSync('mount', ['-o', 'loop', image, at], { stdio: 'pipe' });
const umount = (at) => execFileSync('umount', ['-l', at]);

/** Writes as fast as it may until it is told to stop; resolves to the acknowledged records. */
function produce(cluster, file) {
  const child = spawn(weir, ['log', 'produce', TOPIC, '--seconds', '600', '--rate', '20000', '--window', '8192',
    '--timeout', '1500', '--ack-log', file, '--config', cluster.nodes[0].config], { stdio: 'ignore' });
  const ended = new Promise((done) => child.once('exit', done));
  return {
    async stop() {
      child.kill('SIGINT');
      await ended;
      return readFileSync(file, 'utf8').split('\n').filter(Boolean);
    },
  };
}

async function powerFails(cluster, image, at) {
  for (const n of cluster.nodes) n.process.kill('SIGKILL');
  await Promise.all(cluster.nodes.map((n) => n.exited));
  execFileSync('cp', ['--sparse=always', image, `${image}.copy`]);
  umount(at);
  renameSync(`${image}.copy`, image);
  mount(image, at);
}

test('what was acknowledged is there after the power of all nodes failed', { timeout: 60_000 + ROUNDS * 60_000 }, async (t) => {
  if (!canMount) {
    t.diagnostic('no loop devices here: no disk to cut the power of');
    return;
  }
  const folder = mkdtempSync(join(process.env.WEIR_E2E_DIR ?? tmpdir(), 'weir-power-'));
  const image = join(folder, 'image');
  const at = join(folder, 'disk');
  execFileSync('truncate', ['-s', `${IMAGE_MIB}M`, image]);
  execFileSync('mkfs.ext4', ['-q', '-F', image]);
  mkdirSync(at);
  try {
    mount(image, at);
  } catch (e) {
    t.diagnostic(`mounting is not allowed here: ${e.stderr}`);
    rmSync(folder, { recursive: true, force: true });
    return;
  }
  let cluster;
  const acked = new Set();
  try {
    cluster = await Cluster.start(CONFIG, at);
    execFileSync('sync', ['-f', at]); // the configurations; what the nodes write they sync themselves
    for (let round = 1; round <= ROUNDS; round++) {
      const producer = produce(cluster, join(folder, `acks.${round}`));
      await sleep(1000 + 150 * (round % 10));
      await powerFails(cluster, image, at);
      const now = await producer.stop();
      assert.ok(now.length > 0, 'nothing was acknowledged before the power failed');
      for (const line of now) acked.add(line);
      for (const n of cluster.nodes) n.start();
      await cluster.ready();
      const stored = new Set((await cluster.cli('log', 'consume', TOPIC, '--format', 'crc')).split('\n'));
      const lost = [...acked].filter((line) => !stored.has(line));
      t.diagnostic(`round ${round}: ${now.length} acknowledged, ${acked.size} in all, ${lost.length} lost`);
      assert.deepEqual(lost, []);
    }
    await cluster.cli('log', 'verify');
  } finally {
    await cluster?.stop();
    umount(at);
    rmSync(folder, { recursive: true, force: true });
  }
});
