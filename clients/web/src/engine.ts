// A playlist in a <video>: hls.js with its settings, recovery, and what the controls want to know. hls.js goes first: Chromium
// says "maybe" to native HLS and then does not play it.
import Hls, { ErrorTypes, Events, type ErrorData } from 'hls.js';
import { ClusterLoader } from './loader';
import * as nodes from './nodes';

export interface Quality {
  index: number;
  name: string;
}

export interface EngineEvents {
  /** The list of qualities or the one that plays has changed. */
  qualities(): void;
  /** Playing on needs a new start: the stream has ended or cannot be loaded. */
  lost(why: string): void;
}

const STALL_MS = 3000;
const WATCH_MS = 500;
const LATE_S = 2;
const JUMP_PAUSE_MS = 5000;
const MEDIA_RECOVERIES = 3;
const BEHIND_S = 4;
// hls.js keeps this much more distance for each stall, for good. Its own choice, a whole second, would make one hiccup cost
// more than the rest of the way from the camera.
const STALL_PENALTY_S = 0.2;

export class Engine {
  private hls: Hls | undefined;
  private timer: number | undefined;
  private recoveries = 0;
  private lastTime = -1;
  private stalledSince = 0;
  private jumped = 0;
  private follow = true; // until the viewer pauses: then being behind is what they want

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly url: string,
    private readonly live: boolean,
    private readonly events: EngineEvents,
  ) {
    video.addEventListener('pause', this.onPause);
    if (Hls.isSupported()) this.startHls();
    else if (video.canPlayType('application/vnd.apple.mpegurl')) video.src = nodes.onCurrent(url);
    else queueMicrotask(() => events.lost('This browser cannot play HLS.'));
  }

  private readonly onPause = () => { this.follow = false; };

  close(): void {
    clearInterval(this.timer);
    this.video.removeEventListener('pause', this.onPause);
    this.hls?.destroy();
    this.hls = undefined;
    this.video.removeAttribute('src');
    this.video.load();
  }

  qualities(): Quality[] {
    const levels = this.hls?.levels ?? [];
    return levels
      .map((l, index) => ({ index, name: l.height ? `${l.height}p${fps(l.frameRate)}` : l.name }))
      .reverse();
  }

  /** -1: chosen by the connection's speed. */
  get chosen(): number {
    return this.hls?.autoLevelEnabled === false ? this.hls.manualLevel : -1;
  }

  get playing(): number {
    return this.hls?.currentLevel ?? -1;
  }

  choose(index: number): void {
    if (this.hls) this.hls.nextLevel = index;
    this.events.qualities();
  }

  /** Seconds from the encoder's wall clock to what is on screen, when the playlist tells. */
  latency(): number | undefined {
    const at = this.hls?.playingDate;
    return at ? (Date.now() - at.getTime()) / 1000 : undefined;
  }

  /** More than a few seconds behind what could be played. */
  get behind(): boolean {
    const edge = this.hls?.liveSyncPosition;
    return this.live && edge != null && edge - this.video.currentTime > BEHIND_S;
  }

  goLive(): void {
    this.follow = true;
    const edge = this.hls?.liveSyncPosition;
    if (edge != null) this.video.currentTime = edge;
    void this.video.play().catch(() => undefined);
  }

  private startHls(): void {
    const hls = new Hls({
      loader: ClusterLoader,
      lowLatencyMode: true,
      maxLiveSyncPlaybackRate: 1.1,
      liveSyncOnStallIncrease: STALL_PENALTY_S,
      backBufferLength: 30,
      maxBufferLength: this.live ? 20 : 40,
      abrEwmaDefaultEstimate: 5_000_000,
      capLevelToPlayerSize: false,
      startPosition: this.live ? -1 : 0,
    });
    hls.on(Events.MANIFEST_PARSED, () => {
      this.events.qualities();
      void this.video.play().catch(() => this.playMuted());
    });
    hls.on(Events.LEVEL_SWITCHED, () => this.events.qualities());
    hls.on(Events.ERROR, (_e, data) => this.onError(data));
    hls.attachMedia(this.video);
    hls.loadSource(this.url);
    this.hls = hls;
    if (this.live) this.timer = window.setInterval(() => this.watch(), WATCH_MS);
  }

  /** Browsers let a page begin with sound only after a click on it. */
  private playMuted(): void {
    this.video.muted = true;
    void this.video.play().catch(() => undefined);
  }

  private onError(data: ErrorData): void {
    if (!data.fatal || !this.hls) return;
    if (data.type === ErrorTypes.MEDIA_ERROR && this.recoveries++ < MEDIA_RECOVERIES) {
      this.hls.recoverMediaError();
      return;
    }
    this.events.lost(data.details);
  }

  /** What playing a little faster does not cure: standing still before a hole, and being seconds late. */
  private watch(): void {
    const v = this.video;
    const now = Date.now();
    const edge = this.hls?.liveSyncPosition ?? v.currentTime;
    if (v.paused || v.currentTime !== this.lastTime) this.stalledSince = now;
    this.lastTime = v.currentTime;
    const stalled = now - this.stalledSince > STALL_MS && edge > v.currentTime + 0.5;
    const late = this.follow && edge - v.currentTime > LATE_S && now - this.jumped > JUMP_PAUSE_MS &&
      isBuffered(v, edge);
    if (!v.paused && (stalled || late)) {
      this.stalledSince = now;
      this.jumped = now;
      v.currentTime = edge;
    }
  }
}

function isBuffered(v: HTMLVideoElement, at: number): boolean {
  for (let i = 0; i < v.buffered.length; i++) {
    if (v.buffered.start(i) <= at && at < v.buffered.end(i)) return true;
  }
  return false;
}

function fps(rate: number): string {
  return rate > 31 ? String(Math.round(rate)) : '';
}
