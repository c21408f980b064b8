// The player: a video with controls of its own over it. Live ones tell how far behind the camera they are; past ones seek.
import { h, icon, replace, type IconName } from './dom';
import { Engine } from './engine';
import { clock } from './format';
import { recall, remember } from './store';

export interface PlayerOptions {
  url: string;
  live: boolean;
  poster?: string;
  lost(why: string): void;
}

const TICK_MS = 250;
const HIDE_MS = 2500;
const SEEK_S = 10;

function button(name: IconName, label: string, onclick: () => void): HTMLButtonElement {
  return h('button', { class: 'icon-button', 'aria-label': label, title: label, onclick }, icon(name));
}

export class Player {
  readonly element: HTMLElement;
  private readonly video: HTMLVideoElement;
  private readonly engine: Engine;
  private readonly timer: number;
  private hideTimer: number | undefined;
  private readonly play = button('play', 'Play or pause (k)', () => this.togglePlay());
  private readonly mute = button('volume', 'Mute (m)', () => this.toggleMute());
  private readonly full = button('full', 'Full screen (f)', () => this.toggleFull());
  private readonly gear = button('gear', 'Quality', () => this.toggleMenu());
  private readonly menu = h('div', { class: 'menu', role: 'menu', hidden: true });
  private readonly latency = h('span', { class: 'latency', title: 'From the encoder to your screen' });
  private readonly liveButton = h('button', { class: 'live-button', onclick: () => this.engine.goLive() });
  private readonly time = h('span', { class: 'time' });
  private readonly unmute = h('button', { class: 'unmute', hidden: true, onclick: () => this.toggleMute() },
    icon('muted'), 'Tap for sound');
  private readonly volume = h('input', { class: 'volume', type: 'range', min: 0, max: 1, step: 0.05,
    'aria-label': 'Volume', oninput: () => this.setVolume(Number(this.volume.value)) });
  private readonly seek = h('input', { class: 'seek', type: 'range', min: 0, max: 1, step: 'any', value: 0,
    'aria-label': 'Position', oninput: () => { this.video.currentTime = Number(this.seek.value); } });
  private readonly onKey = (e: KeyboardEvent) => this.key(e);
  private readonly onFull = () =>
    replace(this.full, icon(document.fullscreenElement ? 'unfull' : 'full'));

  constructor(private readonly options: PlayerOptions) {
    this.video = h('video', { playsinline: true, poster: options.poster });
    this.video.volume = Number(recall('volume') ?? 1);
    this.video.muted = recall('muted') === 'true';
    const bar = h('div', { class: 'bar' },
      this.play, this.mute, this.volume,
      ...(options.live ? [this.liveButton, this.latency] : [this.time]),
      h('span', { class: 'grow' }), this.gear, this.full);
    this.element = h('div', { class: 'player', tabindex: 0 }, this.video, h('div', { class: 'spinner' }),
      this.unmute,
      h('div', { class: 'controls' }, options.live ? null : this.seek, bar), this.menu);
    this.engine = new Engine(this.video, options.url, options.live, {
      qualities: () => this.drawMenu(),
      lost: options.lost,
    });
    this.listen();
    this.timer = window.setInterval(() => this.tick(), TICK_MS);
    this.tick();
  }

  close(): void {
    clearInterval(this.timer);
    clearTimeout(this.hideTimer);
    document.removeEventListener('keydown', this.onKey);
    document.removeEventListener('fullscreenchange', this.onFull);
    this.engine.close();
  }

  private listen(): void {
    const v = this.video;
    for (const e of ['play', 'pause', 'volumechange', 'seeked']) v.addEventListener(e, () => this.tick());
    const busy = (on: boolean) => () => this.element.classList.toggle('busy', on);
    for (const e of ['waiting', 'loadstart', 'seeking']) v.addEventListener(e, busy(true));
    for (const e of ['playing', 'canplay', 'timeupdate']) v.addEventListener(e, busy(false));
    v.addEventListener('click', () => (this.menu.hidden ? this.togglePlay() : this.toggleMenu()));
    v.addEventListener('dblclick', () => this.toggleFull());
    for (const e of ['pointermove', 'pointerdown', 'focusin']) {
      this.element.addEventListener(e, () => this.wake());
    }
    document.addEventListener('keydown', this.onKey);
    document.addEventListener('fullscreenchange', this.onFull);
    this.wake();
  }

  /** Controls show while the pointer moves, and stay while paused. */
  private wake(): void {
    this.element.classList.remove('idle');
    clearTimeout(this.hideTimer);
    this.hideTimer = window.setTimeout(() => {
      if (!this.video.paused && this.menu.hidden) this.element.classList.add('idle');
    }, HIDE_MS);
  }

  private key(e: KeyboardEvent): void {
    const at = e.target as HTMLElement;
    if (at.closest('input, textarea, dialog') || e.ctrlKey || e.metaKey || e.altKey) return;
    const onButton = at.closest('button, a') !== null;
    const keys: Record<string, () => void> = {
      k: () => this.togglePlay(),
      m: () => this.toggleMute(),
      f: () => this.toggleFull(),
    };
    if (!onButton) keys[' '] = keys.k!;
    if (this.options.live) keys.l = () => this.engine.goLive();
    else {
      keys.ArrowLeft = () => { this.video.currentTime -= SEEK_S; };
      keys.ArrowRight = () => { this.video.currentTime += SEEK_S; };
    }
    const act = keys[e.key];
    if (act) {
      e.preventDefault();
      act();
      this.wake();
    }
  }

  private togglePlay(): void {
    if (this.video.paused) void this.video.play().catch(() => undefined);
    else this.video.pause();
  }

  private toggleMute(): void {
    this.video.muted = !this.video.muted;
    if (!this.video.muted && this.video.volume === 0) this.video.volume = 0.5;
    remember('muted', String(this.video.muted));
  }

  private setVolume(volume: number): void {
    this.video.volume = volume;
    this.video.muted = volume === 0;
    remember('volume', String(volume));
    remember('muted', String(volume === 0));
  }

  private toggleFull(): void {
    if (document.fullscreenElement) void document.exitFullscreen();
    else void this.element.requestFullscreen?.().catch(() => undefined);
  }

  private toggleMenu(): void {
    this.menu.hidden = !this.menu.hidden;
    if (!this.menu.hidden) this.drawMenu();
  }

  private drawMenu(): void {
    const { chosen, playing } = this.engine;
    const list = this.engine.qualities();
    const now = list.find((q) => q.index === playing)?.name;
    const entry = (index: number, name: string) =>
      h('button', { role: 'menuitemradio', 'aria-checked': String(index === chosen),
        onclick: () => { this.engine.choose(index); this.menu.hidden = true; } }, name);
    replace(this.menu, entry(-1, chosen === -1 && now ? `Auto (${now})` : 'Auto'),
      ...list.map((q) => entry(q.index, q.name)));
  }

  private tick(): void {
    const v = this.video;
    replace(this.play, icon(v.paused ? 'play' : 'pause'));
    replace(this.mute, icon(v.muted || v.volume === 0 ? 'muted' : 'volume'));
    this.volume.value = String(v.muted ? 0 : v.volume);
    this.volume.style.setProperty('--fill', `${Number(this.volume.value) * 100}%`);
    this.unmute.hidden = !(v.muted && !v.paused && recall('muted') !== 'true');
    if (this.options.live) this.tickLive();
    else this.tickVod();
  }

  private tickLive(): void {
    const behind = this.engine.behind || (this.video.paused && this.video.currentTime > 0);
    const seconds = this.engine.latency();
    this.liveButton.classList.toggle('behind', behind);
    this.liveButton.textContent = behind ? 'Go live' : 'Live';
    this.latency.textContent = seconds === undefined || seconds < 0 ? '' : `${seconds.toFixed(1)} s`;
  }

  private tickVod(): void {
    const { currentTime, duration } = this.video;
    const whole = Number.isFinite(duration) ? duration : 0;
    this.seek.max = String(whole || 1);
    if (document.activeElement !== this.seek || !this.video.seeking) this.seek.value = String(currentTime);
    this.seek.style.setProperty('--fill', `${whole ? (currentTime / whole) * 100 : 0}%`);
    this.time.textContent = `${clock(currentTime)} / ${clock(whole)}`;
  }
}
