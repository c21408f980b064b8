// Nodes that speak TLS to one another: what goes between them, what strangers see, and certificates that are renewed.
import assert from 'node:assert/strict';
import { readFileSync, unlinkSync } from 'node:fs';
import { request } from 'node:https';
import { after, before, test } from 'node:test';
import { connect } from 'node:tls';
import { launch, plays } from './lib/browser.mjs';
import { Cluster, until } from './lib/cluster.mjs';
import { liveReady } from './lib/hls.mjs';
import { publish } from './lib/stream.mjs';

const INTERNAL = ['/internal/views', '/internal/store/0000000000000000/a', '/internal/transcode/load',
  '/internal/transcode/stream/river'];

let cluster, browser, channel;
before(async () => {
  cluster = await Cluster.start('media.grace_ms = 4000', undefined, 3, { tls: true });
  channel = await cluster.channel('river');
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await cluster?.stop();
});

/** What a program with a certificate of the cluster has to say to get in. */
const papers = () => Object.fromEntries(['ca', 'cert', 'key'].map((k) => [k, readFileSync(cluster.pem(k, 'client'))]));

/** A request to the listener for nodes: its status; fails when TLS does. */
function ask(node, path, options, method = 'GET') {
  return new Promise((done, fail) => {
    const r = request({ host: '127.0.0.1', port: node.ports.internal, path, method, agent: false,
      headers: { 'X-Weir-Secret': cluster.secret }, ...options }, (answer) => {
      answer.resume();
      answer.once('end', () => done(answer.statusCode));
    });
    r.once('error', fail);
    r.end();
  });
}

/** The fingerprint of what a port shows. */
function shown(port) {
  return new Promise((done, fail) => {
    const s = connect({ host: '127.0.0.1', port, ...papers() }, () => {
      done(s.getPeerCertificate().fingerprint256);
      s.destroy();
    });
    s.once('error', fail);
  });
}

/** A counter over all nodes. */
async function metric(name) {
  const texts = await Promise.all(cluster.nodes.map(async (n) => (await n.get('/metrics')).text()));
  return texts.reduce((sum, text) => sum + Number(text.match(new RegExp(`^${name} (\\d+)`, 'm'))?.[1] ?? 0), 0);
}

test('a broadcast plays on each node while its parts go from node to node encrypted', async () => {
  const encoder = publish(`${cluster.nodes[1].rtmp}/${channel.key}`);
  for (const n of cluster.nodes) {
    await until(`live on ${n.name}`, () => liveReady(n, 'river'));
    await plays(browser, n, '/river');
  }
  assert.ok(await metric('weir_store_remote_gets_total') > 0, 'no part was fetched from another node');
  await encoder.stop();
});

test('what is for nodes is not served to the public, with the secret or without', async () => {
  for (const n of cluster.nodes) {
    for (const path of INTERNAL) {
      for (const method of ['GET', 'PUT']) {
        for (const headers of [{}, { 'X-Weir-Secret': cluster.secret }]) {
          const answer = await fetch(n.http + path, { method, headers, ...(method === 'PUT' && { body: 'x' }) });
          assert.ok([404, 405].includes(answer.status), `${method} ${path} on ${n.name}: ${answer.status}`);
        }
      }
    }
  }
});

test('the listener for nodes refuses plain connections, strangers, and a member without the secret', async () => {
  const [n] = cluster.nodes;
  await assert.rejects(fetch(`http://127.0.0.1:${n.ports.internal}/internal/views`,
    { headers: { 'X-Weir-Secret': cluster.secret } }));
  await assert.rejects(ask(n, '/internal/views', { ca: papers().ca }), /certificate|hang up|reset/i);
  assert.equal(await ask(n, '/internal/views', papers()), 200);
  assert.equal(await ask(n, '/internal/views', { ...papers(), headers: {} }), 401);
  assert.equal(await ask(n, '/api/streams', papers()), 404);
});

test('commands with the secret use it', async () => {
  assert.match(await cluster.cli('user', 'create', 'anna'), /anna/);
  const { different } = JSON.parse(await cluster.cli('replay', '--verify', '--json'));
  assert.equal(different, 0);
});

test('renewed certificates are shown from SIGHUP on, and streams go on', async () => {
  const [n] = cluster.nodes;
  const ports = [n.ports.internal, n.ports.broker, n.ports.peer];
  const old = await Promise.all(ports.map(shown));
  assert.equal(new Set(old).size, 1);
  const encoder = publish(`${cluster.nodes[0].rtmp}/${channel.key}`);
  await until('live again', () => liveReady(n, 'river'));
  for (const what of ['cert', 'key']) unlinkSync(cluster.pem(what, n.name));
  await cluster.certificates();
  n.process.kill('SIGHUP');
  await until('new certificates', async () => (await Promise.all(ports.map(shown))).every((s) => s !== old[0]));
  await plays(browser, cluster.nodes[2], '/river');
  // What can't be read changes nothing.
  unlinkSync(cluster.pem('cert', n.name));
  n.process.kill('SIGHUP');
  await until('the failure is told', () => (readFileSync(n.log, 'utf8').match(/tls_reload_failed/g) ?? []).length === 2);
  assert.notEqual((await Promise.all(ports.map(shown)))[0], old[0]);
  assert.equal(n.ended, undefined);
  await encoder.stop();
});
