// hls.js's loader with the cluster behind it: a request that fails at one node is asked of the next one, and hls.js never knows.
// URLs stay those of the page's own origin, so that nothing has to be rewritten in playlists.
import Hls, {
  type HlsConfig,
  type Loader,
  type LoaderCallbacks,
  type LoaderConfiguration,
  type LoaderContext,
  type LoaderResponse,
  type LoaderStats,
} from 'hls.js';
import * as nodes from './nodes';

type Context = LoaderContext;
type Inner = Loader<Context>;

const LAG_RETRIES = 10;
const LAG_DELAY_MS = 150;
const ROUND_DELAY_MS = 250;
const ROUNDS = 3;

/** A node that has just been switched to may be a few records behind: it does not know the newest part yet. */
function mayBeLag(url: string, code: number): boolean {
  return (
    code >= 500 ||
    (code === 404 && /\/(part|seg|init)-/.test(url)) ||
    (code === 400 && url.includes('_HLS_msn='))
  );
}

export class ClusterLoader implements Loader<Context> {
  context: Context | null = null;
  private inner: Inner;
  private timer: number | undefined;
  private failures = 0;
  private lags = 0;
  private gone = false;

  constructor(private readonly config: HlsConfig) {
    this.inner = this.fresh();
  }

  get stats(): LoaderStats {
    return this.inner.stats;
  }

  load(context: Context, config: LoaderConfiguration, callbacks: LoaderCallbacks<Context>): void {
    this.context = context;
    this.attempt(context, config, callbacks);
  }

  abort(): void {
    this.stop();
    this.inner.abort();
  }

  destroy(): void {
    this.stop();
    this.inner.destroy();
  }

  getCacheAge(): number | null {
    return this.inner.getCacheAge?.() ?? null;
  }

  getResponseHeader(name: string): string | null {
    return this.inner.getResponseHeader?.(name) ?? null;
  }

  private fresh(): Inner {
    return new Hls.DefaultConfig.loader(this.config) as unknown as Inner;
  }

  private stop(): void {
    this.gone = true;
    clearTimeout(this.timer);
  }

  private attempt(context: Context, config: LoaderConfiguration, cb: LoaderCallbacks<Context>): void {
    const url = nodes.onCurrent(context.url);
    const again = (delay: number) => {
      this.inner.destroy();
      this.inner = this.fresh();
      this.timer = window.setTimeout(() => {
        if (!this.gone) this.attempt(context, config, cb);
      }, delay);
    };
    this.inner.load({ ...context, url }, config, {
      ...cb,
      onSuccess: (response: LoaderResponse, stats, _context, details) => {
        response.url = context.url;
        cb.onSuccess(response, stats, context, details);
      },
      onError: (error, _context, details, stats) => {
        if (error.code === 0 && this.mayGoOn(url)) return again(this.roundDelay());
        if (mayBeLag(url, error.code) && this.lags++ < LAG_RETRIES) return again(LAG_DELAY_MS);
        cb.onError(error, context, details, stats);
      },
      onTimeout: (stats, _context, details) => {
        if (this.mayGoOn(url)) return again(0);
        cb.onTimeout(stats, context, details);
      },
    });
  }

  private mayGoOn(url: string): boolean {
    nodes.failed(url);
    return !this.gone && ++this.failures < nodes.count() * ROUNDS;
  }

  /** The next node at once; a pause after each round of all nodes. */
  private roundDelay(): number {
    return this.failures % nodes.count() === 0 ? ROUND_DELAY_MS : 0;
  }
}
