// One room over WebSocket (docs/chat.md). A connection that breaks is made again, at the next node when this one is gone, and goes on
// behind the last offset seen: nothing is missed, nothing comes twice. What was not acknowledged is sent again under its nonce,
// which the room counts once.
import * as nodes from './nodes';

export interface Badge {
  kind: 'owner' | 'sub';
  tier?: number;
  months?: number;
}

interface Head {
  room: string;
  offset: number;
  time: number;
}
export interface Message extends Head {
  type: 'message';
  user: string;
  display_name: string;
  text: string;
  nonce: string;
  badges: Badge[];
  deleted_by?: string;
}
export interface Notice extends Head {
  type: 'notice';
  kind: string;
  user: string;
  text: string;
}
export interface Ban extends Head {
  type: 'ban' | 'unban';
  user: string;
  by: string;
  reason?: string;
  seconds?: number;
}
export interface Deleted extends Head {
  type: 'deleted';
  target: number;
  by: string;
}
export interface Slow extends Head {
  type: 'slow';
  seconds: number;
  by: string;
}
export type RoomEvent = Message | Notice | Ban | Deleted | Slow;

type Answer =
  | RoomEvent
  | { type: 'welcome'; node: string }
  | { type: 'authed'; user: string; display_name: string }
  | { type: 'joined'; room: string; offset: number; resumed: boolean; slow: number }
  | { type: 'history'; room: string; more: boolean; items: RoomEvent[] }
  | { type: 'lagged'; room: string; offset: number }
  | { type: 'ack'; room: string; nonce: string; offset: number }
  | { type: 'error'; code: string; message: string; nonce?: string; seconds?: number };

export interface ChatEvents {
  state(state: 'connecting' | 'joined', node: string): void;
  event(event: RoomEvent): void;
  /** The room's slow mode as it was joined; 0: off. Later changes are events. */
  slow(seconds: number): void;
  user(name: string | undefined, displayName: string): void;
  /** `text` is what could not be sent, when the error is about that; `seconds` how long slow mode has it wait. */
  error(code: string, message: string, text: string | undefined, seconds: number): void;
  /** Something between what was shown and what follows is no longer to be had. */
  gap(): void;
}

const PROTOCOL = 'weir.chat.v1';
const HISTORY = 50;
const BACKOFF_MAX_MS = 5000;
const PING_MS = 15_000;
const SILENCE_MS = 25_000;
const RESEND = new Set(['unavailable', 'unknown_outcome', 'busy']);
const RESEND_MS = 700;
const RATE_MS = 1050;

interface Pending {
  text: string;
  nonce: string;
}

export class ChatClient {
  private socket: WebSocket | undefined;
  private from = '';
  private last = -1; // newest event shown
  private begins: number | undefined; // what follows this offset is sent to us
  private tries = 0;
  private joined = false;
  private closed = false;
  private heard = 0;
  private node = '';
  private readonly pending = new Map<string, Pending>();
  private readonly pinger: number;
  private retry: number | undefined;

  constructor(
    private readonly room: string,
    private token: string | null,
    private readonly events: ChatEvents,
  ) {
    this.pinger = window.setInterval(() => this.ping(), PING_MS);
    this.open();
  }

  close(): void {
    this.closed = true;
    clearInterval(this.pinger);
    clearTimeout(this.retry);
    this.socket?.close();
  }

  /** Logs in with another token, or out with null: a new connection, the same place in the room. */
  login(token: string | null): void {
    this.token = token;
    this.pending.clear();
    if (token === null) this.events.user(undefined, '');
    this.socket?.close();
  }

  send(text: string): void {
    const nonce = newNonce();
    this.pending.set(nonce, { text, nonce });
    if (this.joined) this.tell({ type: 'send', room: this.room, text, nonce });
  }

  ban(user: string, seconds: number): void {
    this.tell({ type: 'ban', room: this.room, user, seconds, reason: '' });
  }

  slow(seconds: number): void {
    this.tell({ type: 'slow', room: this.room, seconds });
  }

  delete(offset: number): void {
    this.tell({ type: 'delete', room: this.room, offset });
  }

  private tell(command: object): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(command));
  }

  private ping(): void {
    if (!this.socket || this.socket.readyState !== WebSocket.OPEN) return;
    if (Date.now() - this.heard > SILENCE_MS) {
      this.drop(this.socket); // no farewell reaches us from a node that hangs
      return;
    }
    this.tell({ type: 'ping' });
  }

  private open(): void {
    this.events.state('connecting', this.node);
    this.from = nodes.origin();
    const socket = new WebSocket(`${this.from.replace(/^http/, 'ws')}/chat`, PROTOCOL);
    this.socket = socket;
    this.joined = false;
    this.heard = Date.now();
    socket.onopen = () => {
      if (this.token !== null) this.tell({ type: 'auth', token: this.token });
      this.join();
    };
    socket.onmessage = (e) => {
      if (socket !== this.socket) return;
      this.heard = Date.now();
      this.answer(JSON.parse(String(e.data)) as Answer);
    };
    socket.onclose = (e) => {
      if (e.code !== 1000) nodes.failed(this.from);
      this.drop(socket);
    };
  }

  private drop(socket: WebSocket): void {
    if (socket !== this.socket || this.closed) return;
    this.socket = undefined;
    socket.close();
    this.joined = false;
    this.events.state('connecting', this.node);
    // At once the first time, on another node; then more and more patiently, never all viewers at the same moment.
    const wait = this.tries === 0 ? 0 : Math.min(BACKOFF_MAX_MS, 250 * 2 ** this.tries);
    this.tries++;
    this.retry = window.setTimeout(() => this.open(), wait * (0.5 + Math.random() / 2));
  }

  private join(): void {
    const where =
      this.begins === undefined ? { history: HISTORY } : { after: Math.max(this.last, this.begins) };
    this.tell({ type: 'join', room: this.room, ...where });
  }

  private answer(a: Answer): void {
    switch (a.type) {
      case 'welcome':
        this.node = a.node;
        break;
      case 'authed':
        this.events.user(a.user, a.display_name);
        break;
      case 'joined':
        this.events.slow(a.slow ?? 0);
        this.onJoined(a.offset, a.resumed);
        break;
      case 'history':
        a.items.forEach((item) => this.see(item));
        break;
      case 'lagged':
        this.last = Math.max(this.last, a.offset);
        this.join();
        break;
      case 'ack':
        this.pending.delete(a.nonce);
        break;
      case 'error':
        this.onError(a.code, a.message, a.nonce, a.seconds ?? 0);
        break;
      default:
        if ('offset' in a) this.see(a);
    }
  }

  private onJoined(offset: number, resumed: boolean): void {
    this.joined = true;
    this.tries = 0;
    if (this.begins !== undefined && !resumed) this.events.gap();
    this.begins = Math.max(offset, this.last);
    this.events.state('joined', this.node);
    for (const p of this.pending.values()) {
      this.tell({ type: 'send', room: this.room, text: p.text, nonce: p.nonce });
    }
  }

  private see(event: RoomEvent): void {
    if (event.offset <= this.last) return;
    this.last = Math.max(event.offset, this.last);
    if (event.type === 'message' && event.nonce) this.pending.delete(event.nonce);
    this.events.event(event);
  }

  private onError(code: string, message: string, nonce: string | undefined, seconds: number): void {
    const about = nonce === undefined ? undefined : this.pending.get(nonce);
    // One message that comes a moment too soon waits for its second; who types on is told.
    const early = code === 'rate_limited' && this.pending.size === 1;
    if (about && (early || RESEND.has(code))) {
      window.setTimeout(() => {
        if (this.joined && this.pending.has(about.nonce)) {
          this.tell({ type: 'send', room: this.room, text: about.text, nonce: about.nonce });
        }
      }, early ? RATE_MS : RESEND_MS);
      return;
    }
    if (about) this.pending.delete(about.nonce);
    if (code === 'bad_token') {
      this.token = null;
      this.events.user(undefined, '');
    }
    this.events.error(code, message, about?.text, seconds);
    // A node that is still starting cannot let anyone in: another can.
    if (code === 'unavailable' && !this.joined) this.socket?.close(4000);
  }
}

function newNonce(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
}
