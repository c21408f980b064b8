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
const MEDIA_RECOVERIES = 3;
const BEHIND_S = 4;

export class Engine {
  private hls: Hls | undefined;
  private timer: number | undefined;
  private recoveries = 0;
  private lastTime = -1;
  private stalledSince = 0;

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly url: string,
    private readonly live: boolean,
    private readonly events: EngineEvents,
  ) {
    if (Hls.isSupported()) this.startHls();
    else if (video.canPlayType('application/vnd.apple.mpegurl')) video.src = nodes.onCurrent(url);
    else queueMicrotask(() => events.lost('This browser cannot play HLS.'));
  }

  close(): void {
    clearInterval(this.timer);
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
    const edge = this.hls?.liveSyncPosition;
    if (edge != null) this.video.currentTime = edge;
    void this.video.play().catch(() => undefined);
  }

  private startHls(): void {
    const hls = new Hls({
      loader: ClusterLoader,
      lowLatencyMode: true,
      maxLiveSyncPlaybackRate: 1.1,
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

  /** Playback that stands still although there is something newer (a hole after a break) goes on at the live edge. */
  private watch(): void {
    const v = this.video;
    const now = Date.now();
    if (v.paused || v.currentTime !== this.lastTime) {
      this.lastTime = v.currentTime;
      this.stalledSince = now;
      return;
    }
    const edge = this.hls?.liveSyncPosition;
    if (now - this.stalledSince > STALL_MS && edge != null && edge > v.currentTime + 0.5) {
      this.stalledSince = now;
      v.currentTime = edge;
    }
  }
}

function fps(rate: number): string {
  return rate > 31 ? String(Math.round(rate)) : '';
}
