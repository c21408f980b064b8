// Copies of media are made again: every node's disk is emptied, one after the other, each when the one before has its copies back. Every part has two copies
// (media.replicas), so without that all is lost with the second disk. Then a node is drained: others have what it held before it is removed.
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Cluster, until } from './lib/cluster.mjs';
import { masterPlaylist, mediaPlaylist } from './lib/hls.mjs';
import { publish } from './lib/stream.mjs';

const CONFIG = ['chat', 'lifecycle', 'ledger', 'accounts', 'meta', 'groups'].map((t) => `log.topic = ${t} partitions=1`)
  .concat('media.part_ms = 400', 'media.segment_ms = 1000', 'log.free_mib_min = 1').join('\n');

let cluster, broadcast, expected;
const others = (node) => cluster.nodes.filter((n) => n !== node);
const copies = async (node) => (await fetch(`${node.http}/internal/copies`, { headers: { 'X-Weir-Secret': cluster.secret }, signal: AbortSignal.timeout(2000) })).json();

/** All that a viewer can ask for, from one node. */
async function content(node) {
  const found = new Map();
  for (const rendition of await masterPlaylist(node, `/hls/demo/vod/${broadcast}.m3u8`)) {
    const path = `/hls/demo/vod/${rendition}`;
    const { parsed, uris } = await mediaPlaylist(node, path);
    for (const uri of new Set([...parsed.segments.map((s) => s.map?.uri).filter(Boolean), ...uris])) {
      const at = new URL(uri, node.http + path).pathname;
      found.set(at, Buffer.from(await (await node.get(at)).arrayBuffer()).toString('base64'));
    }
  }
  return found;
}

/** What the others know to be in the log, and the node's disk has its share of it. */
async function whole(node, members) {
  const far = Math.max(...await Promise.all(others(node).map(async (n) => (await copies(n)).offset_now)));
  await until(`${node.name} has its copies`, async () => {
    const c = await copies(node);
    return c.whole && c.offset >= far && c.members.length === members;
  });
}

before(async () => {
  cluster = await Cluster.start(CONFIG);
  const { key } = await cluster.channel('demo');
  const { code, said } = await publish(`${cluster.nodes[0].rtmp}/${key}`, 4).done;
  assert.equal(code, 0, said);
  const ended = await until('the broadcast to have ended', async () => {
    const { broadcasts } = await cluster.nodes[0].json('/api/channels/demo/broadcasts');
    return broadcasts.find((b) => !b.live);
  });
  broadcast = ended.broadcast;
  expected = await content(cluster.nodes[0]);
  assert.ok(expected.size >= 4, `${expected.size} segments and init segments`);
});
after(() => cluster?.stop());

test('every disk is emptied, one after the other, and nothing is lost', async () => {
  for (const node of cluster.nodes) {
    await node.kill('SIGKILL');
    rmSync(join(node.dir, 'data'), { recursive: true });
    node.start();
    await until(`${node.name} healthy`, () => node.healthy());
    await cluster.run(others(node)[0], 'cluster', 'balance', '--wait');
    await whole(node, 3);
  }
  for (const node of cluster.nodes) assert.deepEqual(await content(node), expected, node.name);
});

test('a node is removed when others have what it held', async () => {
  const [n1, n2, n3] = cluster.nodes;
  const n4 = await cluster.newNode('n4', CONFIG);
  n4.start();
  await until('n4 healthy', () => n4.healthy());
  await cluster.cli('cluster', 'add', 'n4', 'id=4', ...['peer', 'broker', 'http', 'rtmp'].map((k) => `${k}=127.0.0.1:${n4.ports[k]}`));
  await cluster.cli('cluster', 'drain', 'n2', '--wait');

  await n3.kill('SIGKILL');
  await assert.rejects(cluster.cli('cluster', 'remove', 'n2', '--timeout', '1000'), /do not have all media of n2 yet: n3 does not say what it holds/);
  n3.start();
  await until('n3 healthy', () => n3.healthy());
  await until('n2 removed', () => cluster.cli('cluster', 'remove', 'n2'));
  await n2.kill('SIGKILL');
  rmSync(join(n2.dir, 'data'), { recursive: true });
  for (const node of [n1, n3, n4]) assert.deepEqual(await content(node), expected, node.name);
});
