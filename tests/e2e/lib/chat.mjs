// A bare chat client (docs/chat.md): says what it is told, keeps all it hears.
import { randomBytes } from 'node:crypto';
import { WebSocket } from 'ws';

export const nonce = () => randomBytes(8).toString('hex');
const EVENTS = new Set(['message', 'notice', 'ban', 'unban', 'slow', 'deleted']);

export class Chat {
  /** Resolves once connected, logged in (with a token) and joined (with a room). */
  static async open(url, { token, room, after, history } = {}) {
    const c = new Chat();
    c.heard = [];
    c.waiters = [];
    c.socket = new WebSocket(url, 'weir.chat.v1');
    c.closed = new Promise((done) => c.socket.once('close', (code) => {
      c.code = code;
      c.wake();
      done(code);
    }));
    c.socket.on('error', () => undefined); // 'close' follows
    c.socket.on('message', (data) => {
      c.heard.push({ ...JSON.parse(data), heardAt: Date.now() });
      c.wake();
    });
    await c.wait((m) => m.type === 'welcome');
    if (token) {
      c.say({ type: 'auth', token });
      await c.answer((m) => m.type === 'authed');
    }
    if (room) {
      c.room = room;
      c.say({ type: 'join', room, after, history });
      c.joined = await c.answer((m) => m.type === 'joined');
    }
    return c;
  }

  say(command) {
    this.socket.send(typeof command === 'string' ? command : JSON.stringify(command));
  }

  /** The first thing heard, so far or later, that `match` takes. */
  wait(match, limitMs = 60_000) {
    return new Promise((done, fail) => {
      const timer = setTimeout(() => fail(new Error('chat: waited in vain')), limitMs);
      const look = () => {
        const found = this.heard.find(match);
        if (found === undefined && this.code === undefined) return false;
        clearTimeout(timer);
        if (found === undefined) fail(new Error(`chat: closed with ${this.code}`));
        else done(found);
        return true;
      };
      if (!look()) this.waiters.push(look);
    });
  }

  /** The same, but an error fails it. */
  async answer(match, limitMs) {
    const m = await this.wait((x) => match(x) || x.type === 'error', limitMs);
    if (m.type === 'error') throw Object.assign(new Error(`chat: ${m.code}: ${m.message}`), m);
    return m;
  }

  wake() {
    this.waiters = this.waiters.filter((look) => !look());
  }

  /** Sends and waits for the ack or the error of that nonce. */
  send(text, id = nonce(), limitMs = 60_000) {
    this.say({ type: 'send', room: this.room, text, nonce: id });
    return this.wait((m) => (m.type === 'ack' || m.type === 'error') && m.nonce === id, limitMs);
  }

  /** What happened in the room, in the order it was heard. */
  events() {
    return this.heard.filter((m) => EVENTS.has(m.type));
  }

  async close() {
    this.socket.close();
    await this.closed;
  }
}
