// A stream from the encoder to the screen, on every node, live and afterwards.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, plays } from './lib/browser.mjs';
import { Cluster, until } from './lib/cluster.mjs';
import { liveReady, masterPlaylist, mediaPlaylist } from './lib/hls.mjs';
import { publish } from './lib/stream.mjs';

let cluster, browser, channel;
before(async () => {
  cluster = await Cluster.start('media.grace_ms = 4000');
  channel = await cluster.channel('river');
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await cluster?.stop();
});

test('an encoder with a wrong key is refused with words and a failing exit', async () => {
  const { code, said } = await publish(`${cluster.nodes[0].rtmp}/live_river_wrongwrongwrong`, 10).done;
  assert.notEqual(code, 0);
  assert.match(said, /key/i);
});

test('a stream plays in a browser on each node, and as a past broadcast once it has ended', async (t) => {
  const encoder = publish(`${cluster.nodes[1].rtmp}/${channel.key}`);
  let broadcast;
  await t.test('live', async () => {
    for (const n of cluster.nodes) {
      const stream = await until(`live on ${n.name}`, () => liveReady(n, 'river'));
      broadcast = stream.broadcast;
      const state = await plays(browser, n, '/river');
      assert.equal(state.width, 640);
    }
  });
  await t.test('both renditions are playlists that a parser takes, equal on all nodes', async () => {
    const renditions = await masterPlaylist(cluster.nodes[0], '/hls/river/master.m3u8');
    assert.ok(renditions.length >= 1);
    for (const r of renditions) {
      const lists = await Promise.all(cluster.nodes.map((n) => mediaPlaylist(n, `/hls/river/${r}`)));
      // Asked at slightly different moments: what all of them have must be the same.
      const common = lists[0].uris.filter((u) => lists.every((l) => l.uris.includes(u)));
      assert.ok(common.length >= 2, `${r}: ${common.length} segments in common`);
      for (const uri of common) {
        const bytes = await Promise.all(cluster.nodes.map(async (n) => {
          const at = new URL(uri, `${n.http}/hls/river/${r}`);
          return Buffer.from(await (await n.get(at.pathname)).arrayBuffer());
        }));
        assert.ok(bytes[0].length > 0);
        assert.ok(bytes.every((b) => b.equals(bytes[0])), `${uri} differs between nodes`);
      }
    }
  });
  await t.test('past', async () => {
    await encoder.stop();
    for (const n of cluster.nodes) {
      const one = await until(`past broadcast on ${n.name}`, async () => {
        const { broadcasts } = await n.json('/api/channels/river/broadcasts');
        return broadcasts.find((b) => b.broadcast === broadcast && !b.live);
      });
      const [first] = await masterPlaylist(n, one.playlist);
      const list = await mediaPlaylist(n, new URL(first, n.http + one.playlist).pathname);
      assert.ok(list.ended, 'a past broadcast has an end');
      const state = await plays(browser, n, `/river/vod/${broadcast}`);
      assert.ok(state.time < 30 && Math.abs(state.duration - one.duration_ms / 1000) < 2);
    }
  });
});

test('a broken or absent thing is an error of HTTP, and the page says so', async () => {
  const [n] = cluster.nodes;
  for (const path of ['/hls/nosuch/master.m3u8', '/hls/river/vod/0000000000000000.m3u8', '/api/channels/nosuch',
    '/hls/river/..%2f..%2fetc/passwd', '/hls/river/vod/zzz.m3u8']) {
    const answer = await fetch(n.http + path);
    assert.ok(answer.status >= 400 && answer.status < 500, `${path}: ${answer.status}`);
  }
  const page = await browser.newPage();
  await page.goto(`${n.http}/nosuch`);
  await page.getByText('No such channel').waitFor();
  await page.close();
});

test('people log in on the page, talk across nodes, and the owner deletes and bans', async () => {
  const guest = await cluster.user('guest');
  const pages = await Promise.all([[0, channel.owner.token], [2, guest.token]].map(async ([i, token]) => {
    const page = await browser.newPage();
    await page.goto(`${cluster.nodes[i].http}/river`);
    await page.getByLabel('Chat token').fill(token);
    await page.getByText('Log in', { exact: true }).click();
    await page.getByLabel('Message', { exact: true }).waitFor();
    return page;
  }));
  const [owner, visitor] = pages;
  const say = async (page, text) => {
    await page.getByLabel('Message', { exact: true }).fill(text);
    await page.keyboard.press('Enter');
  };
  await say(visitor, 'first <b>words</b>');
  await owner.getByText('first <b>words</b>').waitFor();
  await say(owner, 'welcome aboard');
  await visitor.getByText('welcome aboard').waitFor();
  await visitor.locator('.chat-badge.owner').waitFor();
  await owner.getByLabel('Slow mode').selectOption('3600');
  await visitor.getByText('Slow mode: one message every 1 h').waitFor();
  await visitor.getByPlaceholder('You may write again in 59:').waitFor();
  await say(visitor, 'too soon');
  await visitor.getByRole('alert').getByText('Slow mode').waitFor();
  await owner.getByLabel('Slow mode').selectOption('0');
  await visitor.getByText('Slow mode is off').waitFor();
  await visitor.getByPlaceholder('Say something').waitFor();
  assert.equal(await visitor.getByText('too soon').count(), 0);
  const line = owner.locator('.message', { hasText: 'first' });
  await line.hover();
  await line.getByText('Delete').click();
  await visitor.getByText('message deleted').waitFor();
  const again = owner.locator('.message[data-user=guest]');
  await again.hover();
  await again.getByText('Ban', { exact: true }).click();
  await visitor.getByText('guest was banned').waitFor();
  await say(visitor, 'let me in');
  await visitor.getByRole('alert').getByText('banned').waitFor();
  await Promise.all(pages.map((p) => p.close()));
});
