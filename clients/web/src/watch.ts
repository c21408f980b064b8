// A channel: its player while it is live, what to do while it is not, chat beside it, past broadcasts below.
import * as api from './api';
import { ChatPanel } from './chat_panel';
import { h, replace, type Screen } from './dom';
import { since } from './format';
import * as nodes from './nodes';
import { Player } from './player';
import { pastBroadcasts } from './vod';

const POLL_MS = 3000;
const RESTART_MS = 1000;
const PAST_MS = 30_000;

class Watch {
  readonly element: HTMLElement;
  private readonly stage = h('div', { class: 'stage' });
  private readonly heading = h('h1', {});
  private readonly about = h('p', { class: 'muted about' });
  private readonly past = h('section', { class: 'past' });
  private readonly chat: ChatPanel;
  private player: Player | undefined;
  private broadcast = '';
  private timer: number | undefined;
  private pastTimer: number;
  private closed = false;
  private known: api.Channel | undefined;

  constructor(private readonly channel: string) {
    this.chat = new ChatPanel(channel);
    this.heading.textContent = channel;
    this.element = h('div', { class: 'watch' },
      h('div', { class: 'main' }, this.stage,
        h('div', { class: 'info' }, this.heading, this.about), this.past),
      this.chat.element);
    this.message('Connecting…', '', true);
    void this.learn();
    void this.poll();
    void this.listPast();
    this.pastTimer = window.setInterval(() => void this.listPast(), PAST_MS);
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    clearInterval(this.pastTimer);
    this.player?.close();
    this.chat.close();
  }

  private async learn(): Promise<void> {
    for (;;) {
      try {
        this.known = await api.channel(this.channel);
        break;
      } catch {
        await nodes.sleep(POLL_MS);
        if (this.closed) return;
      }
    }
    if (!this.known) {
      this.message('No such channel', 'Perhaps its name is spelled differently.');
      this.chat.close();
      this.chat.element.remove();
      this.element.classList.add('alone');
      this.closed = true;
      return;
    }
    this.chat.setOwner(this.known.owner);
    this.describe(undefined);
  }

  private describe(stream: api.Stream | undefined): void {
    const title = stream?.title || this.known?.title || this.channel;
    const who = this.known?.owner_display_name ?? this.channel;
    this.heading.textContent = title;
    document.title = `${title} · Weir`;
    const subs = this.known?.subscribers ?? 0;
    const parts = [who];
    if (stream) parts.push(`live · ${since(stream.started_ms)}`);
    if (subs > 0) parts.push(`${subs} subscriber${subs === 1 ? '' : 's'}`);
    const category = stream?.category || this.known?.category;
    if (category) parts.push(category);
    this.about.textContent = parts.join(' · ');
  }

  /** Looks now and again whether the channel is live; while a player runs, only for its title. */
  private async poll(): Promise<void> {
    try {
      const stream = (await api.streams()).find((s) => s.channel === this.channel);
      if (this.closed) return;
      if (stream?.ready && (!this.player || stream.broadcast !== this.broadcast)) this.start(stream);
      else if (stream && !this.player) this.message('Starting…', 'The stream is about to begin.', true);
      else if (!stream && !this.player) this.offline();
      if (stream) this.describe(stream);
    } catch {
      if (!this.player && !this.closed) {
        this.message('No node answers', 'Trying again…', true);
      }
    }
    if (!this.closed) this.later(POLL_MS);
  }

  private later(ms: number): void {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.poll(), ms);
  }

  private start(stream: api.Stream): void {
    this.player?.close();
    this.broadcast = stream.broadcast;
    this.player = new Player({
      url: stream.playlist,
      live: true,
      poster: stream.thumbnail ? nodes.onCurrent(stream.thumbnail) : undefined,
      lost: (why) => this.lost(why),
    });
    replace(this.stage, this.player.element);
  }

  /** The player gave up: shown as a pause, then looked at anew. */
  private lost(why: string): void {
    this.player?.close();
    this.player = undefined;
    if (this.closed) return;
    this.message('Reconnecting…', why, true);
    this.later(RESTART_MS);
  }

  private offline(): void {
    const who = this.known?.owner_display_name ?? this.channel;
    this.message(`${who} is offline`, 'This page starts playing when the stream begins.');
  }

  private message(head: string, text: string, busy = false): void {
    replace(this.stage,
      h('div', { class: busy ? 'player message busy' : 'player message', role: 'status' },
        busy && h('div', { class: 'spinner' }), h('strong', {}, head), h('span', {}, text)));
  }

  private async listPast(): Promise<void> {
    try {
      const list = (await api.broadcasts(this.channel)).filter((b) => !b.live);
      if (!this.closed) pastBroadcasts(this.past, this.channel, list);
    } catch {
      // The list stays as it was; the next look may work.
    }
  }
}

export function watch(channel: string): Screen {
  const screen = new Watch(channel);
  return { element: screen.element, title: channel, close: () => screen.close() };
}
