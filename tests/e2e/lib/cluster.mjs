// A cluster from the build, of three nodes unless said otherwise: free ports and a folder of its own, so that it never meets a running ./dev up.
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export const top = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
export const weir = process.env.WEIR_BIN ?? join(top, 'build/weir');
const run = promisify(execFile);

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Asks until `ask` gives something true; the limit only ends what would hang for ever. */
export async function until(what, ask, limitMs = 60_000, everyMs = 100) {
  const end = Date.now() + limitMs;
  let last;
  for (;;) {
    try {
      const answer = await ask();
      if (answer) return answer;
    } catch (e) {
      last = e;
    }
    if (Date.now() > end) throw new Error(`waited in vain: ${what}${last ? ` (${last.message})` : ''}`);
    await sleep(everyMs);
  }
}

const listens = (port) => new Promise((done) => {
  const s = createServer();
  s.once('error', () => done(false));
  s.listen(port, '127.0.0.1', () => s.close(() => done(true)));
});

/** Ports that nobody listens on now: held together while they are looked for, so that they differ. With `shards` those 1,000 further are free as well. */
export async function freePorts(n, shards = 1) {
  if (shards > 1) {
    for (;;) {
      const base = 10_000 + Math.floor(Math.random() * 10_000);
      const all = Array.from({ length: n * shards }, (_, i) => base + (i % n) + 1000 * Math.floor(i / n));
      if ((await Promise.all(all.map(listens))).every(Boolean)) return all.slice(0, n);
    }
  }
  const servers = await Promise.all(Array.from({ length: n }, () => new Promise((done, fail) => {
    const s = createServer();
    s.once('error', fail);
    s.listen(0, '127.0.0.1', () => done(s));
  })));
  const ports = servers.map((s) => s.address().port);
  await Promise.all(servers.map((s) => new Promise((done) => s.close(done))));
  return ports;
}

class Node {
  constructor(cluster, name, ports) {
    Object.assign(this, { cluster, name, ports });
    this.dir = join(cluster.dir, name);
    this.config = join(this.dir, 'weir.conf');
    this.log = join(this.dir, 'log');
    this.http = `http://127.0.0.1:${ports.http}`;
    this.ws = `ws://127.0.0.1:${ports.http}/chat`;
    this.rtmp = `rtmp://127.0.0.1:${ports.rtmp}/live`;
  }

  start() {
    const out = openSync(this.log, 'a');
    this.process = spawn(this.program ?? weir, ['node', '--config', this.config],
      { stdio: ['ignore', out, out], env: { ...process.env, ...this.env } });
    closeSync(out);
    this.exited = new Promise((done) => this.process.once('exit', (code, signal) => {
      this.ended = { code, signal };
      done(this.ended);
    }));
    this.ended = undefined;
  }

  async healthy() {
    if (this.ended) throw new Error(`${this.name} ended: ${JSON.stringify(this.ended)}\n${this.logTail()}`);
    const answer = await fetch(`${this.http}/healthz`, { signal: AbortSignal.timeout(2000) });
    return answer.ok;
  }

  async kill(signal = 'SIGKILL') {
    if (this.process && !this.ended) {
      this.process.kill(signal);
      await this.exited;
    }
  }

  logTail(lines = 12) {
    return readFileSync(this.log, 'utf8').split('\n').slice(-lines - 1).join('\n');
  }

  async get(path) {
    const answer = await fetch(this.http + path, { signal: AbortSignal.timeout(15_000) });
    if (!answer.ok) throw new Error(`GET ${this.name} ${path}: ${answer.status} ${await answer.text()}`);
    return answer;
  }

  async json(path) {
    return (await this.get(path)).json();
  }
}

export class Cluster {
  /** With `tls` nodes speak TLS to one another, with certificates in the folder `tls`. `shards` as in the configuration: ports leave room for them. `prepare(node)` runs before a node's first start, when its
   * folder is there. */
  static async start(extraConfig = '', folder = process.env.WEIR_E2E_DIR ?? tmpdir(), nodes = 3, { tls = false, shards = 1, prepare = () => {} } = {}) {
    const c = new Cluster();
    c.shards = shards;
    c.tls = tls;
    c.dir = mkdtempSync(join(folder, 'weir-e2e-'));
    c.secret = randomBytes(18).toString('hex');
    const ports = await freePorts(5 * nodes, shards);
    c.nodes = ['n1', 'n2', 'n3'].slice(0, nodes).map((name, i) => new Node(c, name, {
      http: ports[5 * i], rtmp: ports[5 * i + 1], broker: ports[5 * i + 2], peer: ports[5 * i + 3],
      internal: ports[5 * i + 4],
    }));
    for (const n of c.nodes) {
      mkdirSync(n.dir);
      writeFileSync(n.config, c.configOf(n, extraConfig));
      prepare(n);
    }
    if (tls) await c.certificates();
    for (const n of c.nodes) n.start();
    try {
      await c.ready();
    } catch (e) {
      await c.stop();
      throw e;
    }
    return c;
  }

  configOf(node, extra) {
    const lines = this.nodes.map((n, i) => `cluster.node = ${n.name} id=${i + 1} ` +
      ['peer', 'broker', 'http', 'rtmp', ...(this.tls ? ['internal'] : [])]
        .map((k) => `${k}=127.0.0.1:${n.ports[k]}`).join(' '));
    const tls = ['ca', 'cert', 'key'].map((k) => `tls.${k} = ${this.pem(k, node.name)}`);
    return [`node.name = ${node.name}`, `node.data = ${node.data ?? join(node.dir, 'data')}`,
      `node.web = ${join(top, 'clients/web/dist')}`, `cluster.secret = ${this.secret}`,
      'log.segment_mib = 4', ...lines, ...(this.tls ? tls : []), extra, ''].join('\n');
  }

  /** Where the files of a node, or of `client`, are: `what` is ca, cert or key. */
  pem(what, name) {
    return join(this.dir, 'tls', { ca: 'ca.pem', cert: `${name}.pem`, key: `${name}.key` }[what]);
  }

  /** Makes the certificates that are not there. */
  certificates() {
    return this.cli('cluster', 'certs', join(this.dir, 'tls'));
  }

  /** One more, not started, that joins: its configuration knows all that there are. */
  async newNode(name, extra = '') {
    const [http, rtmp, broker, peer, internal] = await freePorts(5, this.shards);
    const node = new Node(this, name, { http, rtmp, broker, peer, internal });
    this.nodes.push(node);
    node.id = this.nodes.length;
    mkdirSync(node.dir);
    writeFileSync(node.config, this.configOf(node, `cluster.join = yes\n${extra}`));
    return node;
  }

  /** Its configuration, with the nodes that there are now. */
  rewrite(node, extra = '') {
    writeFileSync(node.config, this.configOf(node, extra));
  }

  async ready() {
    for (const n of this.nodes) await until(`${n.name} healthy`, () => n.healthy());
  }

  /** Runs `weir ...` against the cluster; its standard output. A non-zero exit throws with `code` and `stderr`. */
  async cli(...args) {
    return (await this.run(this.nodes[0], ...args)).stdout;
  }

  /** The same with a node's configuration: it is the first to be asked. */
  run(node, ...args) {
    return run(weir, [...args, '--config', node.config], { maxBuffer: 1 << 28, timeout: 120_000 });
  }

  /** The admin API of a node: quicker than a process for each of hundreds of users. */
  async admin(method, path, body, node = this.nodes[0]) {
    const answer = await fetch(node.http + path, {
      method,
      headers: { 'X-Weir-Secret': this.secret, 'Content-Type': 'application/json' },
      body: body && JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  /** A user with a token. */
  async user(name) {
    await this.admin('POST', '/api/admin/users', { name });
    return { name, token: (await this.admin('POST', `/api/admin/users/${name}/tokens`, {})).token };
  }

  /** A channel of a user of the same name, with a stream key. */
  async channel(name, title = name) {
    const owner = await this.user(name);
    await this.admin('POST', '/api/admin/channels', { name, owner: name, title });
    const { stream_key: key } = await this.admin('POST', `/api/admin/channels/${name}/key`, {});
    return { name, key, owner };
  }

  /** `before`: what is to be done when all have ended, before their folders go. */
  async stop(before = () => {}) {
    for (const n of this.nodes) n.process?.kill('SIGTERM');
    const patience = setTimeout(() => this.nodes.forEach((n) => n.process?.kill('SIGKILL')), 10_000);
    await Promise.all(this.nodes.map((n) => n.exited));
    clearTimeout(patience);
    before();
    if (process.env.WEIR_E2E_KEEP) console.log(`kept ${this.dir}`);
    else rmSync(this.dir, { recursive: true, force: true });
  }
}
