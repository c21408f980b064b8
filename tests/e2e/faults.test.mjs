// kill -9 of each node in turn and of the transcode worker, during a broadcast, with people chatting and a producer writing.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { launch, longestStall, playerState, watchStalls } from './lib/browser.mjs';
import { Chat, nonce } from './lib/chat.mjs';
import { Cluster, sleep, until, weir } from './lib/cluster.mjs';
import { liveReady, mediaPlaylist } from './lib/hls.mjs';
import { publishAnywhere } from './lib/stream.mjs';

const CHANNEL = 'rapids';
const SEGMENTS_AFTER = 4;
const TALKERS = 12;
const PAUSE_MS = 90; // a round of all talkers takes the second that each has to wait
const CONFIG = ['chat=8', 'lifecycle=8', 'ledger=4', 'accounts=1', 'meta=1', 'journal=4']
  .map((t) => `log.topic = ${t.replace('=', ' partitions=')}`).join('\n');

let cluster, browser, encoder, owner, users;
const acked = new Set(); // nonces
before(async () => {
  cluster = await Cluster.start(CONFIG);
  const channel = await cluster.channel(CHANNEL);
  owner = channel.owner;
  users = await Promise.all(Array.from({ length: TALKERS }, (_, i) => cluster.user(`talker${i}`)));
  encoder = publishAnywhere(cluster.nodes.map((n) => `${n.rtmp}/${channel.key}`));
  browser = await launch();
  for (const n of cluster.nodes) await until(`live on ${n.name}`, () => liveReady(n, CHANNEL));
});
after(async () => {
  await encoder?.stop();
  await browser?.close();
  await cluster?.stop();
});

/** Twelve people talk in turn through one node, without a pause, until stopped; the longest time between two acknowledgements. */
async function talk(node) {
  const chats = await Promise.all(users.map((u) => Chat.open(node.ws, { room: CHANNEL, token: u.token })));
  let going = true;
  let longest = 0;
  const say = async (chat) => {
    const id = nonce();
    for (;;) {
      // Sent anew under its nonce when the node could not say what became of it.
      const answer = await chat.send(`at ${Date.now()}`, id);
      chat.heard.length = 0;
      if (answer.type === 'ack') return acked.add(id);
      const again = ['unavailable', 'unknown_outcome', 'busy', 'rate_limited'].includes(answer.code);
      assert.ok(again, `${answer.code}: ${answer.message}`);
      await sleep(answer.code === 'rate_limited' ? 300 : 20);
    }
  };
  const done = (async () => {
    for (let i = 0, last = Date.now(); going; i++) {
      await say(chats[i % chats.length]);
      longest = Math.max(longest, Date.now() - last);
      last = Date.now();
      await sleep(PAUSE_MS);
    }
  })();
  done.catch(() => undefined); // seen in stop()
  return {
    async stop() {
      going = false;
      await Promise.all(chats.map((c) => c.close()));
      await done.catch((e) => {
        if (!/closed with/.test(e.message)) throw e;
      });
      return longest - PAUSE_MS;
    },
  };
}

/** Reads the live playlist of every node again and again: on none may a number ever go back. */
function followPlaylists() {
  const seen = new Map();
  let going = true;
  const wrong = [];
  const follow = async (n) => {
    while (going) {
      try {
        const { first, last } = await mediaPlaylist(n, `/hls/${CHANNEL}/source.m3u8`);
        const before = seen.get(n.name);
        if (before && (first < before.first || last < before.last)) {
          wrong.push(`${n.name}: ${before.first}..${before.last} then ${first}..${last}`);
        }
        seen.set(n.name, { first, last });
      } catch {
        // A dead node does not answer.
      }
      await sleep(150);
    }
  };
  const all = Promise.all(cluster.nodes.map(follow));
  return {
    newest: (n) => seen.get(n.name)?.last ?? -1,
    async stop() {
      going = false;
      await all;
      return wrong;
    },
  };
}

async function openPlayer(node) {
  const page = await browser.newPage({ viewport: { width: 640, height: 480 } });
  await page.goto(`${node.http}/${CHANNEL}`);
  await until(`picture from ${node.name}`, async () => (await playerState(page)).frames > 30);
  await watchStalls(page);
  await sleep(1500);
  await longestStall(page);
  return page;
}

/** Records that were acknowledged and cannot be read back. */
async function lostRecords(ackLog) {
  const crcs = new Set((await cluster.cli('log', 'consume', 'journal', '--format', 'crc')).split('\n')
    .map((l) => l.split(' ').slice(0, 3).join(' ')));
  const lines = readFileSync(ackLog, 'utf8').trim().split('\n');
  return { acknowledged: lines.length, lost: lines.filter((l) => !crcs.has(l)) };
}

async function verified() {
  await until('weir log verify is clean', () => cluster.cli('log', 'verify'), 60_000, 500);
}

/** One fault with everything running. `strike` does it and returns how to mend it. */
async function ordeal(t, name, survivor, strike) {
  const playlists = followPlaylists();
  const ackLog = join(cluster.dir, `ack-${name}`);
  let page, chat, mend;
  const producing = () => promisify(execFile)(weir, ['log', 'produce', 'journal', '--config',
    survivor.config, '--rate', '500', '--size', '100', '--seconds', '9', '--ack-log', ackLog]).catch((e) => e);
  try {
    page = await openPlayer(survivor);
    chat = await talk(survivor);
    const produced = producing();
    await sleep(2000);
    const before = playlists.newest(survivor);
    mend = await strike();
    await until(`segments go on after ${name}`, () => playlists.newest(survivor) >= before + SEGMENTS_AFTER);
    const stall = await longestStall(page);
    const { stderr } = await produced;
    const gap = await chat.stop();
    await mend();
    mend = undefined;
    await verified();
    const { acknowledged, lost } = await lostRecords(ackLog);
    t.diagnostic(`${name}: longest player stall ${stall} ms, longest chat ack gap ${gap} ms, ` +
      `records acknowledged ${acknowledged}, lost ${lost.length}`);
    assert.deepEqual(lost, []);
    assert.ok(acknowledged > 0, `nothing was acknowledged: ${stderr}`);
    const moving = await playerState(page);
    await until('the player still plays', async () => (await playerState(page)).frames > moving.frames);
  } finally {
    await mend?.();
    await chat?.stop().catch(() => undefined);
    await page?.close();
    assert.deepEqual(await playlists.stop(), [], 'media sequence numbers went back');
  }
}

async function killAndReturn(node) {
  await node.kill();
  return async () => {
    node.start();
    await until(`${node.name} is back`, () => node.healthy());
  };
}

for (const i of [0, 1, 2]) {
  test(`kill -9 of node n${i + 1}: nothing acknowledged is lost, the broadcast and the chat go on`, async (t) => {
    const victim = cluster.nodes[i];
    await ordeal(t, `kill-${victim.name}`, cluster.nodes[(i + 1) % 3], () => killAndReturn(victim));
  });
}

/** The worker process that packages the stream now. */
function workerPid() {
  const started = cluster.nodes.flatMap((n) => readFileSync(n.log, 'utf8').split('\n'))
    .filter((l) => / transcode_started /.test(l)).sort();
  const pid = Number(/worker_pid=(\d+)/.exec(started.at(-1))[1]);
  process.kill(pid, 0); // throws when it is not there
  return pid;
}

test('kill -9 of the transcode worker: another takes over and numbering goes on', async (t) => {
  await ordeal(t, 'kill-worker', cluster.nodes[0], async () => {
    process.kill(workerPid(), 'SIGKILL');
    return async () => undefined;
  });
});

test('a page whose own node dies plays and chats on through another', async (t) => {
  const [victim, other] = cluster.nodes;
  const page = await openPlayer(victim);
  await victim.kill();
  await until('chat is joined elsewhere', async () =>
    /via n[23]/.test(await page.locator('.chat-status').textContent()));
  const at = await playerState(page);
  await until('the picture goes on', async () => (await playerState(page)).frames > at.frames + 90);
  t.diagnostic(`page of a killed node: longest stall ${await longestStall(page)} ms`);
  const chat = await Chat.open(other.ws, { room: CHANNEL, token: owner.token });
  assert.equal((await chat.send('across')).type, 'ack');
  await page.getByText('across').waitFor();
  await chat.close();
  await page.close();
  victim.start();
  await until(`${victim.name} is back`, () => victim.healthy());
});

test('afterwards every acknowledged message is there once on every node, and views equal the log', async () => {
  for (const n of cluster.nodes) {
    const chat = await Chat.open(n.ws, { room: CHANNEL, after: -1 });
    await until(`all messages on ${n.name}`, () => {
      const heard = new Set(chat.events().map((m) => m.nonce));
      return [...acked].every((id) => heard.has(id));
    });
    const nonces = chat.events().filter((m) => m.type === 'message').map((m) => m.nonce);
    assert.equal(new Set(nonces).size, nonces.length, 'a message came twice');
    await chat.close();
  }
  await verified();
  await until('weir replay --verify is clean', () => cluster.cli('replay', '--verify'), 60_000, 500);
});
