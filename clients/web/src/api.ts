// What the nodes answer under /api (docs/api.md, docs/hls.md).
import { get } from './nodes';

export interface Rendition {
  name: string;
  width: number;
  height: number;
  frame_rate: number;
  bandwidth: number;
}

export interface Stream {
  channel: string;
  title: string;
  category: string;
  broadcast: string;
  started_ms: number;
  ready: boolean;
  playlist: string;
  renditions: Rendition[];
  thumbnail: string | null;
}

export interface Channel {
  name: string;
  owner: string;
  owner_display_name: string;
  title: string;
  category: string;
  tags: string[];
  subscribers: number;
}

export interface Broadcast {
  broadcast: string;
  live: boolean;
  started_ms: number;
  ended_ms: number | null;
  duration_ms: number;
  playlist: string;
  thumbnail: string | null;
}

/** undefined: there is no such thing. Other failures throw. */
async function json<T>(path: string): Promise<T | undefined> {
  const answer = await get(path);
  if (answer.status === 404) return undefined;
  if (!answer.ok) throw new Error(`${path}: HTTP ${answer.status}`);
  return (await answer.json()) as T;
}

export async function streams(): Promise<Stream[]> {
  return (await json<{ streams: Stream[] }>('/api/streams'))?.streams ?? [];
}

export function channel(name: string): Promise<Channel | undefined> {
  return json<Channel>(`/api/channels/${name}`);
}

export async function broadcasts(name: string): Promise<Broadcast[]> {
  const list = await json<{ broadcasts: Broadcast[] }>(`/api/channels/${name}/broadcasts`);
  return (list?.broadcasts ?? []).sort((a, b) => b.started_ms - a.started_ms);
}
