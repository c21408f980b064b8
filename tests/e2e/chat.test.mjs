// Chat and subscriptions over three nodes.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Chat } from './lib/chat.mjs';
import { Cluster, until } from './lib/cluster.mjs';

const PER_NODE = 100;
const ROOM = 'harbour';

let cluster, owner;
before(async () => {
  cluster = await Cluster.start();
  ({ owner } = await cluster.channel(ROOM));
});
after(() => cluster?.stop());

const join = (i, options) => Chat.open(cluster.nodes[i].ws, { room: ROOM, ...options });
const closeAll = (chats) => Promise.all(chats.map((c) => c.close()));
const heardAll = (chat, n) =>
  chat.wait(() => chat.events().filter((m) => m.type === 'message').length >= n);
const order = (chat) => chat.events().map((m) => `${m.offset} ${m.user} ${m.text}`);

test('a hundred messages from each of three nodes at once are the same three hundred in one order everywhere', async () => {
  const readers = await Promise.all([0, 1, 2].map((i) => join(i)));
  const names = Array.from({ length: 3 * PER_NODE }, (_, i) => `guest${i}`);
  const users = [];
  for (let i = 0; i < names.length; i += 50) {
    users.push(...await Promise.all(names.slice(i, i + 50).map((name) => cluster.user(name))));
  }
  const writers = await Promise.all(users.map((u, i) => join(i % 3, { token: u.token })));
  const answers = await Promise.all(writers.map((w, i) => w.send(`message ${i}`)));
  assert.deepEqual(answers.filter((a) => a.type !== 'ack'), []);
  await Promise.all(readers.map((r) => heardAll(r, names.length)));
  const orders = readers.map(order);
  assert.equal(orders[0].length, names.length);
  assert.deepEqual(orders[1], orders[0]);
  assert.deepEqual(orders[2], orders[0]);
  assert.deepEqual(new Set(readers[0].events().map((m) => m.text)),
    new Set(names.map((_, i) => `message ${i}`)));
  await closeAll([...readers, ...writers]);
});

test('a reader that comes back on another node misses and repeats nothing', async () => {
  const users = await Promise.all(Array.from({ length: 20 }, (_, i) => cluster.user(`talker${i}`)));
  const writers = await Promise.all(users.map((u, i) => join(i % 3, { token: u.token })));
  const witness = await join(0);
  const first = await join(0);
  const begin = first.joined.offset;
  const talk = Promise.all(writers.map((w, i) => w.send(`before and after ${i}`)));
  await heardAll(first, 3);
  await first.close();
  const seen = first.events();
  const second = await join(1, { after: Math.max(begin, ...seen.map((m) => m.offset)) });
  assert.equal(second.joined.resumed, true);
  await talk;
  await heardAll(witness, writers.length);
  await heardAll(second, writers.length - seen.length);
  const joinedUp = [...seen, ...second.events()].map((m) => m.offset);
  assert.deepEqual(joinedUp, witness.events().map((m) => m.offset));
  await closeAll([...writers, witness, second]);
});

test('after a ban nothing of the banned user follows, on any node', async () => {
  const loud = await cluster.user('loud');
  const readers = await Promise.all([0, 1, 2].map((i) => join(i)));
  const moderator = await join(1, { token: owner.token });
  const writers = await Promise.all([0, 1, 2].map((i) => join(i, { token: loud.token })));
  assert.equal((await writers[0].send('still here')).type, 'ack');
  moderator.say({ type: 'ban', room: ROOM, user: 'loud', seconds: 0, reason: 'noise', nonce: 'b1' });
  await moderator.answer((m) => m.type === 'ack' && m.nonce === 'b1');
  // The first node may still answer that the user is too fast: that is asked before.
  const refused = await Promise.all(writers.slice(1).map((w) => w.send('and now?')));
  assert.deepEqual(refused.map((r) => r.code), ['banned', 'banned']);
  const last = await join(2, { token: owner.token });
  assert.equal((await last.send('quiet')).type, 'ack');
  for (const r of readers) {
    await r.wait((m) => m.text === 'quiet');
    const events = r.events();
    const at = events.findIndex((m) => m.type === 'ban' && m.user === 'loud');
    assert.ok(at >= 0);
    assert.deepEqual(events.slice(at + 1).filter((m) => m.user === 'loud'), []);
  }
  await closeAll([...readers, ...writers, moderator, last]);
});

test('slow mode has a user wait on every node alike, not the owner, and outlives the nodes', async () => {
  const hasty = await cluster.user('hasty');
  const readers = await Promise.all([0, 1, 2].map((i) => join(i)));
  const moderator = await join(1, { token: owner.token });
  const writers = await Promise.all([0, 1, 2].map((i) => join(i, { token: hasty.token })));
  const slow = async (chat, seconds, id) => {
    chat.say({ type: 'slow', room: ROOM, seconds, nonce: id });
    return chat.wait((m) => m.nonce === id && (m.type === 'ack' || m.type === 'error'));
  };
  assert.equal((await slow(writers[0], 5, 's0')).code, 'forbidden');
  assert.equal((await slow(moderator, 3601, 's1')).code, 'bad_request');
  const begun = await slow(moderator, 3600, 's2');
  assert.equal(begun.type, 'ack');
  // Through all three gateways at once: one of them is the first in the log.
  const answers = await Promise.all(writers.map((w, i) => w.send(`me ${i}`)));
  assert.equal(answers.filter((a) => a.type === 'ack').length, 1);
  for (const a of answers.filter((x) => x.type !== 'ack')) {
    assert.equal(a.code, 'slow_mode');
    assert.ok(a.seconds > 3500 && a.seconds <= 3600, `${a.seconds} s`);
  }
  assert.equal((await moderator.send('one')).type, 'ack');
  await until('a second message of the owner', async () => (await moderator.send('two')).type === 'ack');
  for (const r of readers) {
    await r.wait((m) => m.text === 'two');
    assert.deepEqual(r.events().map((m) => [m.type, m.user ?? m.seconds]),
      [['slow', 3600], ['message', 'hasty'], ['message', owner.name], ['message', owner.name]]);
    assert.equal(r.events()[0].offset, begun.offset);
  }
  await closeAll([...readers, ...writers, moderator]);
  await cluster.nodes[2].kill();
  cluster.nodes[2].start();
  await until('a node that starts again', () => cluster.nodes[2].healthy());
  const again = await join(2, { token: hasty.token });
  assert.equal(again.joined.slow, 3600);
  assert.equal((await again.send('after a restart')).code, 'slow_mode');
  const off = await join(0, { token: owner.token });
  assert.equal((await slow(off, 0, 's3')).type, 'ack');
  await again.wait((m) => m.type === 'slow' && m.seconds === 0);
  assert.equal((await again.send('at last')).type, 'ack');
  await closeAll([again, off]);
});

test('what may not be sent is refused with a reason, and the connection lives', async () => {
  const polite = await cluster.user('polite');
  const c = await join(0, { token: polite.token });
  assert.equal((await c.send('x'.repeat(501))).code, 'bad_text');
  assert.equal((await c.send('bell \u0007')).code, 'bad_text');
  c.say('{"type":');
  await c.wait((m) => m.code === 'bad_json');
  c.say({ type: 'ban', room: ROOM, user: 'guest1', nonce: 'n' });
  assert.equal((await c.wait((m) => m.type === 'error' && m.nonce === 'n')).code, 'forbidden');
  const [one, two] = await Promise.all([c.send('x'.repeat(500)), c.send('too soon')]);
  assert.equal(one.type, 'ack');
  assert.equal(two.code, 'rate_limited');
  const anonymous = await join(0);
  anonymous.say({ type: 'send', room: ROOM, text: 'hi', nonce: 'n' });
  assert.equal((await anonymous.wait((m) => m.type === 'error')).code, 'unauthorized');
  await closeAll([c, anonymous]);
});

test('a subscription granted twice under one key is booked once, and chat shows its badge and its notice', async () => {
  const patron = await cluster.user('patron');
  const readers = await Promise.all([0, 1, 2].map((i) => join(i)));
  const grant = () => cluster.cli('sub', 'grant', 'patron', ROOM, '--tier', '2', '--key', 'order-1', '--json');
  await grant();
  await grant();
  const list = JSON.parse(await cluster.cli('sub', 'list', '--channel', ROOM, '--json'));
  const subs = Array.isArray(list) ? list : list.subs;
  assert.equal(subs.length, 1);
  assert.equal(subs[0].months_total, 1);
  const writer = await join(2, { token: patron.token });
  for (const r of readers) await r.wait((m) => m.type === 'notice' && m.user === 'patron' && m.tier === 2);
  assert.equal((await writer.send('thank you')).type, 'ack');
  for (const r of readers) {
    const m = await r.wait((x) => x.type === 'message' && x.user === 'patron');
    assert.deepEqual(m.badges, [{ kind: 'sub', tier: 2, months: 1 }]);
    assert.equal(r.events().filter((x) => x.type === 'notice').length, 1);
  }
  await closeAll([...readers, writer]);
});
