// Which node of the cluster this page talks to. Every node serves everything, so when one dies the next one is asked for
// the same path. It begins with the node that served the page and stays with whatever works.

const AVOID_MS = 15_000;
const REFRESH_MS = 60_000;

const origins: string[] = [location.origin];
const badUntil = new Map<string, number>();
let current = 0;

export function origin(): string {
  return origins[current] ?? location.origin;
}

export function count(): number {
  return origins.length;
}

/** `url` of this page's origin, on the node that is in use now. Others are left alone. */
export function onCurrent(url: string): string {
  const u = new URL(url, location.origin);
  return u.origin === location.origin || origins.includes(u.origin)
    ? origin() + u.pathname + u.search
    : url;
}

/** Something asked of `from` failed at the network. Later questions go to the next node that is not known to be bad. */
export function failed(from: string): void {
  const at = origins.indexOf(new URL(from, location.origin).origin);
  if (at < 0) return;
  const now = Date.now();
  badUntil.set(origins[at]!, now + AVOID_MS);
  if (at !== current) return; // somebody has moved on already
  for (let i = 1; i <= origins.length; i++) {
    const next = (at + i) % origins.length;
    if ((badUntil.get(origins[next]!) ?? 0) <= now) {
      current = next;
      return;
    }
  }
  current = (at + 1) % origins.length; // all bad: still better to go round than to insist
}

export function sleep(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}

const FETCH_TIMEOUT_MS = 5000;

/** GET of a path from whichever node answers; each is tried before giving up. An HTTP error is an answer. */
export async function get(path: string): Promise<Response> {
  let error: unknown;
  for (let i = 0; i < Math.max(2, origins.length); i++) {
    const from = origin();
    try {
      const answer = await fetch(from + path, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) });
      if (answer.status < 500) return answer;
      error = new Error(`${path}: HTTP ${answer.status}`);
    } catch (e) {
      error = e;
    }
    failed(from);
  }
  throw error;
}

async function learn(): Promise<void> {
  const answer = await get('/api/nodes');
  if (!answer.ok) return;
  const { nodes } = (await answer.json()) as { nodes: { name: string; http: string }[] };
  for (const n of nodes) {
    const known = `${location.protocol}//${n.http}`;
    if (!origins.includes(known)) origins.push(known);
  }
}

/** Learns the other nodes now and again from time to time. */
export function watch(): void {
  const again = () => void learn().catch(() => undefined);
  again();
  setInterval(again, REFRESH_MS);
}
