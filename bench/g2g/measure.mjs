// Streams a picture that carries the wall clock to Weir and to nginx-rtmp at once, plays both in Chromium one after the other, and reads the
// clock off the screen. hls.js's own latency figure understates; only what is in the picture counts.
import { spawn } from 'node:child_process';
import { createReadStream, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { launch } from '../../tests/e2e/lib/browser.mjs';
import { Cluster, freePorts, sleep, top, until } from '../../tests/e2e/lib/cluster.mjs';
import { liveReady } from '../../tests/e2e/lib/hls.mjs';

const seconds = Number(process.argv[2] ?? 30);
if (!(seconds >= 5 && seconds <= 3600)) {
  console.error('usage: ./dev bench g2g [SECONDS], 5 to 3600 (30)');
  process.exit(2);
}
const WIDTH = 640;
const HEIGHT = 360;
const FPS = 30;
const WARM_S = 12; // players walk up to their target latency first

const stops = [];
function start(command, args, options = {}) {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'], ...options });
  const exited = new Promise((done) => child.once('exit', done));
  stops.push(async () => {
    child.kill('SIGTERM');
    await exited;
  });
  return child;
}

async function startNginx(dir) {
  const module = '/usr/lib/nginx/modules/ngx_rtmp_module.so';
  if (!existsSync(module)) throw new Error('libnginx-mod-rtmp is not installed');
  const [rtmp, http] = await freePorts(2);
  const user = process.getuid() === 0 ? 'user root;' : '';
  mkdirSync(join(dir, 'hls'));
  writeFileSync(join(dir, 'nginx.conf'), `
    load_module ${module}; ${user} daemon off; worker_processes 1;
    pid ${dir}/pid; error_log ${dir}/error.log error; events { worker_connections 256; }
    rtmp { server { listen 127.0.0.1:${rtmp}; access_log off; application live {
      live on; hls on; hls_path ${dir}/hls; hls_fragment 2s; hls_playlist_length 12s; } } }
    http { access_log off; server { listen 127.0.0.1:${http}; root ${dir};
      types { application/vnd.apple.mpegurl m3u8; video/mp2t ts; }
      add_header Access-Control-Allow-Origin *; add_header Cache-Control no-cache; } }`);
  start('nginx', ['-p', dir, '-c', join(dir, 'nginx.conf'), '-e', join(dir, 'error.log')]);
  return { rtmp: `rtmp://127.0.0.1:${rtmp}/live/clock`, hls: `http://127.0.0.1:${http}/hls/clock.m3u8` };
}

/** One encoder, both servers. */
function startEncoder(urls) {
  const picture = start(join(top, 'build/bench/clock_picture'), [WIDTH, HEIGHT, FPS].map(String),
    { stdio: ['ignore', 'pipe', 'inherit'] });
  const ffmpeg = start('ffmpeg', ['-hide_banner', '-loglevel', 'error',
    '-f', 'rawvideo', '-pix_fmt', 'yuv420p', '-s', `${WIDTH}x${HEIGHT}`, '-r', String(FPS), '-i', '-',
    '-f', 'lavfi', '-i', 'sine=frequency=300:sample_rate=48000', '-map', '0:v', '-map', '1:a',
    '-c:v', 'libx264', '-preset', 'superfast', '-tune', 'zerolatency', '-b:v', '1200k', '-maxrate', '1200k',
    '-bufsize', '1200k', '-g', '60', '-keyint_min', '60', '-sc_threshold', '0',
    '-c:a', 'aac', '-b:a', '96k', '-ac', '2', '-flags', '+global_header', '-flush_packets', '1',
    '-f', 'tee', urls.map((u) => `[f=flv]${u}`).join('|')], { stdio: ['pipe', 'ignore', 'inherit'] });
  picture.stdout.on('error', () => undefined);
  ffmpeg.stdin.on('error', () => undefined);
  picture.stdout.pipe(ffmpeg.stdin);
}

/** A bare page for the peer: hls.js as it comes. */
async function peerPage() {
  const script = join(top, 'clients/web/node_modules/hls.js/dist/hls.min.js');
  const server = createServer((req, res) => {
    if (req.url === '/hls.js') {
      res.setHeader('content-type', 'text/javascript');
      createReadStream(script).pipe(res);
      return;
    }
    res.setHeader('content-type', 'text/html');
    res.end('<!doctype html><video muted autoplay playsinline width=640 height=360></video><script src=/hls.js>' +
      '</script><script>const h = new Hls(); h.loadSource(new URLSearchParams(location.search).get("src"));' +
      'h.attachMedia(document.querySelector("video"));</script>');
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  stops.push(() => new Promise((done) => {
    server.closeAllConnections?.();
    server.close(done);
  }));
  return `http://127.0.0.1:${server.address().port}/`;
}

/** Runs in the page: reads the cells of every presented frame (clock_picture.c has their table). */
function readClock() {
  const video = document.querySelector('video');
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [160, 24];
  const context = canvas.getContext('2d', { willReadFrequently: true });
  window.clock = { samples: [], unreadable: 0 };
  const decode = () => {
    context.drawImage(video, 0, 0, video.videoWidth, video.videoHeight / 4, 0, 0, 160, 24);
    const { data } = context.getImageData(0, 0, 160, 24);
    const bit = (i) => (data[((Math.floor(i / 20) * 8 + 4) * 160 + (i % 20) * 8 + 4) * 4] > 128 ? 1 : 0);
    const frame = [0, 1, 2, 3, 56, 57, 58, 59].map(bit).join('');
    let ms = 0;
    for (let i = 4; i < 48; i++) ms = ms * 2 + bit(i);
    let sum = 0xa5;
    for (let i = 0, rest = ms; i < 6; i++, rest = Math.floor(rest / 256)) sum ^= rest % 256;
    let sent = 0;
    for (let i = 48; i < 56; i++) sent = sent * 2 + bit(i);
    return frame === '10100101' && sum === sent ? ms : undefined;
  };
  const onFrame = () => {
    const ms = decode();
    const now = performance.timeOrigin + performance.now();
    if (ms === undefined) window.clock.unreadable++;
    else window.clock.samples.push({ at: now, age: now - ms });
    video.requestVideoFrameCallback(onFrame);
  };
  video.requestVideoFrameCallback(onFrame);
}

async function measure(browser, url) {
  const page = await browser.newPage({ viewport: { width: 1100, height: 620 } });
  await page.goto(url);
  await page.waitForFunction(() => document.querySelector('video')?.videoWidth > 0, undefined, { timeout: 60_000 });
  await page.evaluate(readClock);
  await sleep(WARM_S * 1000);
  await page.evaluate(() => { window.clock.samples.length = 0; });
  await sleep(seconds * 1000);
  const { samples, unreadable } = await page.evaluate(() => window.clock);
  await page.close();
  const ages = samples.map((s) => s.age).sort((a, b) => a - b);
  if (ages.length === 0) throw new Error(`${url}: no frame could be read (${unreadable} unreadable)`);
  const at = (p) => ages[Math.min(ages.length - 1, Math.floor(ages.length * p))];
  let freeze = 0;
  for (let i = 1; i < samples.length; i++) freeze = Math.max(freeze, samples[i].at - samples[i - 1].at);
  return { p50: at(0.5), p95: at(0.95), freeze, frames: ages.length, unreadable };
}

function print(name, m) {
  console.log(`g2g.${name}.p50 ${m.p50.toFixed(0)} ms`);
  console.log(`g2g.${name}.p95 ${m.p95.toFixed(0)} ms`);
  console.log(`g2g.${name}.longest_freeze ${m.freeze.toFixed(0)} ms`);
  console.log(`# ${name}: ${m.frames} frames read in ${seconds} s, ${m.unreadable} unreadable`);
}

const dir = mkdtempSync(join(tmpdir(), 'weir-g2g-'));
try {
  const cluster = await Cluster.start();
  stops.push(() => cluster.stop());
  const { key } = await cluster.channel('clock');
  const nginx = await startNginx(dir);
  startEncoder([`${cluster.nodes[0].rtmp}/${key}`, nginx.rtmp]);
  const browser = await launch();
  stops.push(() => browser.close());
  const viewed = cluster.nodes[1]; // not the one the encoder talks to
  await until('Weir is live', () => liveReady(viewed, 'clock'));
  const weir = await measure(browser, `${viewed.http}/clock`);
  await until('nginx-rtmp is live', async () => (await fetch(nginx.hls)).ok);
  const peer = await measure(browser, `${await peerPage()}?src=${encodeURIComponent(nginx.hls)}`);
  print('weir', weir);
  print('nginx_rtmp', peer);
  console.log(`g2g.ratio.p50 ${(weir.p50 / peer.p50).toFixed(3)} of nginx_rtmp`);
} finally {
  for (const stop of stops.reverse()) await stop();
  rmSync(dir, { recursive: true, force: true });
}
