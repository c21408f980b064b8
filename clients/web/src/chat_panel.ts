// The room beside the player.
import { ChatClient, type Badge, type Message, type RoomEvent } from './chat';
import { add, h, icon, replace } from './dom';
import { clock, hue, timeOfDay } from './format';
import { recall, remember } from './store';

const LINES_MAX = 400;
const TEXT_MAX = 500;
const NEAR_BOTTOM_PX = 60;
const TROUBLE_MS = 6000;
const TIMEOUT_S = 600;
const SLOW_S = [0, 3, 10, 30, 60, 300, 900, 3600];
const TICK_MS = 200;
const URL_PATTERN = /\bhttps?:\/\/[^\s<>"]+/g;

const FRIENDLY: Record<string, string> = {
  rate_limited: 'One message a second: wait a moment and send it again.',
  banned: 'You cannot write here: you are banned from this room.',
  bad_token: 'This token is not valid (any more). Log in again.',
};

/** Text with its links; everything else stays text. */
function linked(text: string): Node[] {
  const out: Node[] = [];
  let at = 0;
  for (const m of text.matchAll(URL_PATTERN)) {
    out.push(document.createTextNode(text.slice(at, m.index)));
    out.push(h('a', { href: m[0], target: '_blank', rel: 'noopener noreferrer nofollow' }, m[0]));
    at = (m.index ?? 0) + m[0].length;
  }
  out.push(document.createTextNode(text.slice(at)));
  return out;
}

function badge(b: Badge): HTMLElement {
  if (b.kind === 'owner') return h('span', { class: 'chat-badge owner', title: 'Owner' }, icon('crown'));
  const months = b.months ?? 1;
  const title = `Subscriber, tier ${b.tier ?? 1}, ${months} month${months === 1 ? '' : 's'}`;
  return h('span', { class: `chat-badge sub tier${b.tier ?? 1}`, title }, icon('star'));
}

/** "30 s", "5 min", "1 h". */
function span(seconds: number): string {
  if (seconds % 3600 === 0) return `${seconds / 3600} h`;
  return seconds % 60 === 0 ? `${seconds / 60} min` : `${seconds} s`;
}

export class ChatPanel {
  readonly element: HTMLElement;
  private readonly client: ChatClient;
  private readonly lines = h('ol', { class: 'lines', 'aria-live': 'polite' });
  private readonly status = h('span', { class: 'chat-status' });
  private readonly trouble = h('p', { class: 'trouble', hidden: true, role: 'alert' });
  private readonly newer = h('button', { class: 'newer', hidden: true, onclick: () => this.toBottom() });
  private readonly input = h('textarea', { rows: 1, placeholder: 'Say something', 'aria-label': 'Message',
    enterkeyhint: 'send' });
  private readonly count = h('span', { class: 'count' });
  private readonly foot = h('div', { class: 'chat-foot' });
  private readonly who = h('span', { class: 'who' });
  private readonly slowChoice = h('select', { class: 'slow-choice', 'aria-label': 'Slow mode',
    title: 'How long each viewer waits between two messages', onchange: () => this.chooseSlow() });
  private readonly slowText = h('span', { class: 'slow-text' });
  private owner = '';
  private user: string | undefined;
  private unseen = 0;
  private troubleTimer: number | undefined;
  private slowS = 0;
  private saidAt = 0; // when the room took the user's last message, by this page's clock
  private readonly slowTimer = window.setInterval(() => this.drawSlow(), TICK_MS);

  constructor(room: string) {
    this.lines.addEventListener('scroll', () => {
      if (this.atBottom()) this.seen();
    });
    this.element = h('aside', { class: 'chat', 'aria-label': 'Chat' },
      h('div', { class: 'chat-head' }, h('strong', {}, 'Chat'), this.slowChoice, this.status),
      h('div', { class: 'chat-body' }, this.lines, this.newer),
      this.trouble, this.foot);
    this.drawFoot('');
    this.setSlow(0);
    this.client = new ChatClient(room, recall('token'), {
      state: (state, node) => this.showState(state, node),
      event: (event) => this.show(event),
      slow: (seconds) => this.setSlow(seconds),
      user: (name, displayName) => this.setUser(name, displayName),
      error: (code, message, text, seconds) => {
        if (code === 'slow_mode') this.saidAt = Date.now() + (seconds - this.slowS) * 1000;
        this.fail(code, message, text);
      },
      gap: () => this.append(h('li', { class: 'system' }, 'Some messages are too old to show')),
    });
  }

  close(): void {
    clearTimeout(this.troubleTimer);
    clearInterval(this.slowTimer);
    this.client.close();
  }

  setOwner(owner: string): void {
    this.owner = owner;
    this.element.classList.toggle('moderator', this.user !== undefined && this.user === owner);
  }

  private setUser(name: string | undefined, displayName: string): void {
    const before = this.user;
    this.user = name;
    if (name === undefined && recall('token') !== null) remember('token', null);
    this.setOwner(this.owner);
    if (before === name) return;
    this.saidAt = 0;
    this.drawFoot(displayName);
  }

  private showState(state: 'connecting' | 'joined', node: string): void {
    this.status.className = `chat-status ${state}`;
    this.status.textContent = state === 'joined' ? `via ${node}` : 'connecting…';
  }

  // --- Lines ---

  private show(e: RoomEvent): void {
    switch (e.type) {
      case 'message':
        this.append(this.messageLine(e));
        if (e.user === this.user) this.saidAt = Math.min(Date.now(), e.time);
        break;
      case 'notice':
        if (e.text === '') break; // a badge that goes
        this.append(h('li', { class: 'notice', 'data-offset': e.offset }, icon('star'), h('span', {}, e.text)));
        break;
      case 'deleted':
        this.erase(`[data-offset="${e.target}"]`, 'message deleted');
        break;
      case 'ban':
        this.erase(`[data-user="${e.user}"]`, 'message removed');
        this.append(h('li', { class: 'system', 'data-offset': e.offset }, banText(e.user, e.seconds ?? 0)));
        break;
      case 'unban':
        this.append(h('li', { class: 'system', 'data-offset': e.offset }, `${e.user} may write again`));
        break;
      case 'slow':
        this.setSlow(e.seconds);
        this.append(h('li', { class: 'system', 'data-offset': e.offset },
          e.seconds === 0 ? 'Slow mode is off' : `Slow mode: one message every ${span(e.seconds)}`));
        break;
    }
  }

  // --- Slow mode ---

  private setSlow(seconds: number): void {
    this.slowS = seconds;
    const choices = SLOW_S.includes(seconds) ? SLOW_S : [...SLOW_S, seconds].sort((a, b) => a - b);
    replace(this.slowChoice, ...choices.map((s) =>
      h('option', { value: s, selected: s === seconds }, s === 0 ? 'Slow mode off' : `Slow mode ${span(s)}`)));
    this.drawSlow();
  }

  private chooseSlow(): void {
    this.client.slow(Number(this.slowChoice.value));
    this.setSlow(this.slowS); // until the room says so
  }

  private waitS(): number {
    if (this.slowS === 0 || this.user === this.owner) return 0;
    return Math.max(0, Math.ceil((this.saidAt - Date.now()) / 1000) + this.slowS);
  }

  private drawSlow(): void {
    const wait = this.waitS();
    const text = this.slowS === 0 ? '' : wait > 0 ? `Slow mode: wait ${clock(wait)}` : `Slow mode: ${span(this.slowS)}`;
    if (this.slowText.textContent === text) return;
    this.slowText.textContent = text;
    this.slowText.classList.toggle('waiting', wait > 0);
    this.input.placeholder = wait > 0 ? `You may write again in ${clock(wait)}` : 'Say something';
  }

  private messageLine(m: Message): HTMLElement {
    const text = h('span', { class: 'text' });
    add(text, ...(m.deleted_by === undefined ? linked(m.text) : [h('em', {}, 'message deleted')]));
    const tools = h('span', { class: 'tools' },
      h('button', { title: 'Delete this message', onclick: () => this.client.delete(m.offset) }, 'Delete'),
      m.user !== this.owner && h('button', { title: 'No messages for ten minutes',
        onclick: () => this.client.ban(m.user, TIMEOUT_S) }, '10 min'),
      m.user !== this.owner && h('button', { class: 'danger', title: 'Ban for ever',
        onclick: () => this.client.ban(m.user, 0) }, 'Ban'));
    return h('li', { class: 'message', 'data-offset': m.offset, 'data-user': m.user },
      h('time', {}, timeOfDay(m.time)),
      ...m.badges.map(badge),
      h('span', { class: 'name', style: `--hue:${hue(m.user)}`, title: m.user }, m.display_name),
      text, tools);
  }

  private erase(selector: string, text: string): void {
    this.lines.querySelectorAll(`.message${selector} .text`).forEach((el) => {
      replace(el, h('em', {}, text));
    });
  }

  private append(line: HTMLElement): void {
    const stick = this.atBottom();
    this.lines.append(line);
    // While somebody reads above, nothing is taken away under their eyes.
    while (stick && this.lines.childElementCount > LINES_MAX) this.lines.firstElementChild!.remove();
    if (stick) this.toBottom();
    else {
      this.unseen++;
      this.newer.hidden = false;
      replace(this.newer, icon('down'), `${this.unseen} new`);
    }
  }

  private atBottom(): boolean {
    const { scrollTop, scrollHeight, clientHeight } = this.lines;
    return scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM_PX;
  }

  private toBottom(): void {
    this.lines.scrollTop = this.lines.scrollHeight;
    this.seen();
  }

  private seen(): void {
    this.unseen = 0;
    this.newer.hidden = true;
  }

  // --- Writing ---

  private drawFoot(displayName: string): void {
    if (this.user === undefined) {
      const field = h('input', { type: 'password', placeholder: 'Your chat token', 'aria-label': 'Chat token',
        autocomplete: 'off', spellcheck: 'false' });
      const form = h('form', { class: 'login', onsubmit: (e: Event) => {
        e.preventDefault();
        const token = field.value.trim();
        if (token) {
          remember('token', token);
          this.client.login(token);
        }
      } }, field, h('button', { class: 'button' }, 'Log in'));
      replace(this.foot, h('p', { class: 'muted' }, 'Anyone may read. To write, log in with a token.'), form);
      return;
    }
    this.input.oninput = () => this.resize();
    this.input.onkeydown = (e) => {
      if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) {
        e.preventDefault();
        this.send();
      }
    };
    replace(this.who, icon('user'), displayName);
    const logout = h('button', { class: 'quiet', onclick: () => this.client.login(null) }, 'Log out');
    const send = h('button', { class: 'icon-button send', 'aria-label': 'Send', onclick: () => this.send() },
      icon('send'));
    replace(this.foot, h('div', { class: 'compose' }, this.input, send),
      h('div', { class: 'me' }, this.who, this.slowText, this.count, h('span', { class: 'grow' }), logout));
    this.resize();
  }

  private send(): void {
    const text = this.input.value.replace(/\s*\n\s*/g, ' ').trim();
    if (text === '') return;
    if ([...text].length > TEXT_MAX) {
      this.fail('too_long', `A message has at most ${TEXT_MAX} characters.`, undefined);
      return;
    }
    if (this.waitS() > 0) {
      this.fail('slow_mode', `Slow mode: you may write again in ${span(this.waitS())}.`, undefined);
      return;
    }
    this.client.send(text);
    this.input.value = '';
    this.resize();
    this.toBottom();
  }

  private resize(): void {
    const n = [...this.input.value].length;
    this.count.textContent = n > TEXT_MAX - 100 ? `${n}/${TEXT_MAX}` : '';
    this.count.classList.toggle('over', n > TEXT_MAX);
    this.input.style.height = 'auto';
    this.input.style.height = `${Math.min(this.input.scrollHeight, 110)}px`;
  }

  private fail(code: string, message: string, text: string | undefined): void {
    if (text !== undefined && this.input.value === '') {
      this.input.value = text;
      this.resize();
    }
    this.trouble.textContent = FRIENDLY[code] ?? message;
    this.trouble.hidden = false;
    clearTimeout(this.troubleTimer);
    this.troubleTimer = window.setTimeout(() => { this.trouble.hidden = true; }, TROUBLE_MS);
  }
}

function banText(user: string, seconds: number): string {
  if (seconds === 0) return `${user} was banned`;
  return seconds < 60 ? `${user} may not write for ${seconds} s`
    : `${user} may not write for ${Math.round(seconds / 60)} min`;
}
