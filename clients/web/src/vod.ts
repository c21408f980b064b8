// Past broadcasts: the list of a channel, and the page of one.
import * as api from './api';
import { h, replace, type Screen } from './dom';
import { clock, day, hue } from './format';
import * as nodes from './nodes';
import { Player } from './player';

const RETRY_MS = 2000;

function card(channel: string, b: api.Broadcast): HTMLElement {
  const thumb = h('div', { class: 'thumb', style: `--hue:${hue(channel)}` },
    h('span', {}, channel.slice(0, 1)));
  if (b.thumbnail) {
    const src = nodes.onCurrent(b.thumbnail);
    const img = h('img', { src, alt: '', loading: 'lazy', onerror: () => img.remove() });
    thumb.append(img);
  }
  return h('a', { class: 'card', href: `/${channel}/vod/${b.broadcast}` },
    thumb,
    h('span', { class: 'badge length' }, clock(b.duration_ms / 1000)),
    h('div', { class: 'card-text' }, h('strong', {}, day(b.started_ms))));
}

/** Fills `into`; leaves it alone when nothing has changed. */
export function pastBroadcasts(into: HTMLElement, channel: string, list: api.Broadcast[]): void {
  const key = JSON.stringify(list);
  if (into.dataset.key === key) return;
  into.dataset.key = key;
  replace(into, list.length > 0 && h('h2', {}, 'Past broadcasts'),
    list.length > 0 && h('div', { class: 'cards' }, ...list.map((b) => card(channel, b))));
}

export function vod(channel: string, id: string): Screen {
  const stage = h('div', { class: 'stage' }, h('div', { class: 'player message busy' },
    h('div', { class: 'spinner' })));
  const heading = h('h1', {}, channel);
  const about = h('p', { class: 'muted about' });
  const past = h('section', { class: 'past' });
  const element = h('div', { class: 'watch alone' },
    h('div', { class: 'main' }, stage, h('div', { class: 'info' }, heading, about), past));
  let player: Player | undefined;
  let closed = false;
  let resumeAt = 0;

  const message = (text: string) =>
    replace(stage, h('div', { class: 'player message', role: 'status' }, h('strong', {}, text)));

  const play = () => {
    player = new Player({
      url: `/hls/${channel}/vod/${id}.m3u8`,
      live: false,
      lost: () => {
        // Playback goes on where it was when a node answers again.
        const video = player?.element.querySelector('video');
        resumeAt = video?.currentTime || resumeAt;
        player?.close();
        player = undefined;
        message('Reconnecting…');
        setTimeout(() => { if (!closed) play(); }, RETRY_MS);
      },
    });
    const video = player.element.querySelector('video')!;
    video.addEventListener('loadedmetadata', () => { if (resumeAt > 0) video.currentTime = resumeAt; });
    replace(stage, player.element);
  };

  const load = async () => {
    try {
      const [known, list] = await Promise.all([api.channel(channel), api.broadcasts(channel)]);
      if (closed) return;
      const one = list.find((b) => b.broadcast === id);
      if (!one) return message('There is no such broadcast');
      heading.textContent = known?.title || channel;
      const back = h('a', { href: `/${channel}` }, known?.owner_display_name ?? channel);
      replace(about, back, ` · broadcast of ${day(one.started_ms)} · ${clock(one.duration_ms / 1000)}`);
      pastBroadcasts(past, channel, list.filter((b) => !b.live && b.broadcast !== id));
      play();
    } catch {
      if (!closed) setTimeout(() => void load(), RETRY_MS);
    }
  };
  void load();
  return {
    element,
    title: channel,
    close: () => {
      closed = true;
      player?.close();
    },
  };
}
