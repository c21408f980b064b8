// What the world gets wrong: a clear error each, and the node lives.
import assert from 'node:assert/strict';
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { Cluster, freePorts, until, weir } from './lib/cluster.mjs';

let cluster;
before(async () => {
  cluster = await Cluster.start();
});
after(() => cluster?.stop());

/** Runs the node with a configuration that cannot work; what it says. */
async function refusedWith(text) {
  const path = join(cluster.dir, 'wrong.conf');
  writeFileSync(path, text);
  const e = await promisify(execFile)(weir, ['node', '--config', path], { timeout: 20_000 })
    .then(() => undefined, (error) => error);
  assert.ok(e, 'it should not have started');
  assert.ok(e.code > 0, `exit ${e.code} ${e.signal}`);
  return e.stderr;
}

/** Still three good nodes. */
async function alive() {
  for (const n of cluster.nodes) assert.ok(await n.healthy());
  await cluster.cli('cluster', 'status');
}

test('a wrong configuration is refused with file, line, option and what was expected', async () => {
  const good = readFileSync(cluster.nodes[0].config, 'utf8');
  const cases = [
    ['log.segment_mib = lots', /wrong\.conf:\d+: log\.segment_mib.*1 to 1024/s],
    ['log.segment_mib = 99999999999999999999', /log\.segment_mib/],
    ['log.no_such_thing = 1', /wrong\.conf:\d+:.*log\.no_such_thing/],
    ['node.roles = log juggler', /juggler/],
    ['listen.http = 127.0.0.1:99999', /listen\.http/],
    ['cluster.node = n1 id=9', /cluster\.node/],
    ['just some words', /wrong\.conf:\d+/],
  ];
  for (const [line, expected] of cases) {
    const wrong = line.startsWith('log.segment_mib') ? good.replace(/log\.segment_mib.*\n/, '') : good;
    assert.match(await refusedWith(`${wrong}\n${line}\n`), expected, line);
  }
  assert.match(await refusedWith(good.replace(/node\.name.*\n/, 'node.name = n9\n')), /n9/);
  const missing = join(cluster.dir, 'absent.conf');
  await assert.rejects(promisify(execFile)(weir, ['node', '--config', missing]), /absent\.conf/);
});

test('an occupied port is named', async () => {
  const ports = await freePorts(12);
  const taken = ports[2]; // http of the first
  const squatter = createServer().listen(taken, '127.0.0.1');
  await new Promise((done) => squatter.once('listening', done));
  const nodes = [0, 1, 2].map((i) => `cluster.node = p${i} id=${i + 1} ` +
    ['peer', 'broker', 'http', 'rtmp'].map((k, j) => `${k}=127.0.0.1:${ports[4 * i + j]}`).join(' '));
  try {
    const text = await refusedWith(['node.name = p0', `node.data = ${join(cluster.dir, 'occupied')}`,
      `cluster.secret = ${cluster.secret}`, 'log.segment_mib = 1', ...nodes, ''].join('\n'));
    assert.match(text, new RegExp(`127\\.0\\.0\\.1:${taken}`));
  } finally {
    await new Promise((done) => squatter.close(done));
  }
});

/** Writes bytes to a port and waits until it hangs up or a little time has passed. */
function throwAt(port, bytes) {
  return new Promise((done) => {
    const s = connect(port, '127.0.0.1', () => s.write(bytes));
    s.setTimeout(700, () => s.destroy());
    s.on('error', () => undefined);
    s.on('data', () => undefined);
    s.on('close', done);
  });
}

test('garbage on every port harms nobody', async () => {
  const http = 'GET / HTTP/1.1\r\nHost: x\r\n';
  const samples = [
    randomBytes(4096), Buffer.alloc(65_536), Buffer.alloc(3000, 0xff), Buffer.from('\x03'.padEnd(1537, 'z')),
    Buffer.from(`${http}Content-Length: 99999999999999999999\r\n\r\n`),
    Buffer.from(`GET /${'a'.repeat(20_000)} HTTP/1.1\r\n\r\n`),
    Buffer.from(`${http}${'X: y\r\n'.repeat(500)}\r\n`),
    Buffer.from(`GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
      'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n' +
      'Sec-WebSocket-Protocol: weir.chat.v1\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff'),
  ];
  for (const n of cluster.nodes) {
    const ports = Object.values(n.ports);
    await Promise.all(ports.flatMap((p) => samples.map((bytes) => throwAt(p, bytes))));
  }
  await alive();
  await cluster.cli('log', 'verify');
});

test('an invalid batch, an unknown topic and a wrong secret are refused by name', async () => {
  const broker = cluster.nodes[0].ports.broker;
  const secret = join(cluster.dir, 'wrong-secret');
  writeFileSync(secret, 'not-the-secret-of-this-cluster\n');
  await assert.rejects(
    promisify(execFile)(weir, ['log', 'describe', '--brokers', `127.0.0.1:${broker}`, '--secret-file', secret,
      '--timeout', '4000']),
    (e) => e.code > 0 && /secret|refused|auth/i.test(e.stderr));
  await assert.rejects(cluster.cli('log', 'consume', 'nosuch', '--timeout', '4000'), /nosuch/);
  // A record larger than any batch may be.
  const produce = execFile(weir, ['log', 'produce', 'meta', '--config', cluster.nodes[0].config]);
  let said = '';
  produce.stderr.on('data', (d) => { said += d; });
  const ended = new Promise((done) => produce.once('close', done));
  produce.stdin.end(`${'x'.repeat(2_000_000)}\n`);
  assert.ok(await ended > 0, 'two megabytes in one record');
  assert.match(said, /too big/);
  await alive();
});

test('a wrong call of the API is an error that says why', async () => {
  const { http } = cluster.nodes[0];
  const headers = { 'X-Weir-Secret': cluster.secret };
  const post = (path, body, h = headers) => fetch(http + path, { method: 'POST', headers: h, body });
  assert.equal((await post('/api/admin/users', '{"name":"someone"}', {})).status, 401);
  assert.equal((await post('/api/admin/users', '{"name":')).status, 400);
  assert.equal((await post('/api/admin/users', '{"name":"Not A Name"}')).status, 400);
  assert.equal((await post('/api/admin/users', `{"name":"${'x'.repeat(100_000)}"}`)).status, 413);
  assert.equal((await post('/api/admin/users/nobody/tokens', '{}')).status, 404);
  await assert.rejects(cluster.cli('user', 'create', 'NO'), (e) => e.code > 0 && e.stderr.length > 0);
});

const root = process.getuid?.() === 0;
const DISK_MIB = 700;
const canMount = root && existsSync('/dev/loop-control');

test('full disks refuse writes by name, and the nodes come back when there is space', async (t) => {
  if (!canMount) {
    t.diagnostic('no loop devices here: no disk to fill');
    return;
  }
  const image = join(cluster.dir, 'disk.img');
  const mount = join(cluster.dir, 'small');
  writeFileSync(image, '');
  truncateSync(image, DISK_MIB << 20);
  execFileSync('mkfs.ext4', ['-q', '-F', image]);
  mkdirSync(mount);
  try {
    execFileSync('mount', ['-o', 'loop', image, mount], { stdio: 'pipe' });
  } catch (e) {
    t.diagnostic(`mounting is not allowed here: ${e.stderr}`);
    return;
  }
  let small;
  try {
    small = await Cluster.start('log.free_mib_min = 16', mount);
    const produce = () => small.cli('log', 'produce', 'meta', '--records', '10', '--timeout', '4000');
    await until('it takes records', produce);
    const filler = join(mount, 'filler');
    const full = spawnSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=1M'], { encoding: 'utf8' });
    assert.match(full.stderr, /No space/);
    const refused = await produce().then(() => undefined, (e) => e);
    assert.ok(refused, 'full disks took records');
    assert.match(refused.stderr, /space|disk|full/i);
    for (const n of small.nodes) assert.equal(n.ended, undefined, `${n.name} has died`);
    rmSync(filler);
    await until('it takes records again', produce);
    await until('all replicas are equal', () => small.cli('log', 'verify'));
  } finally {
    await small?.stop();
    execFileSync('umount', ['-l', mount]);
  }
});
