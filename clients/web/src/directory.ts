// The live channels, as cards that keep themselves fresh.
import * as api from './api';
import { h, replace, type Screen } from './dom';
import { hue, since } from './format';
import * as nodes from './nodes';

const REFRESH_MS = 5000;
const THUMBNAIL_MS = 15_000;

function poster(s: api.Stream): HTMLElement {
  const shade = `--hue:${hue(s.channel)}`;
  const box = h('div', { class: 'thumb', style: shade }, h('span', {}, s.channel.slice(0, 1)));
  if (s.thumbnail) {
    const age = Math.floor(Date.now() / THUMBNAIL_MS);
    const src = nodes.onCurrent(`${s.thumbnail}?t=${age}`);
    const img = h('img', { src, alt: '', loading: 'lazy', onerror: () => img.remove() });
    box.append(img);
  }
  return box;
}

function card(s: api.Stream): HTMLElement {
  const top = s.renditions.reduce((a, r) => Math.max(a, r.height), 0);
  return h(
    'a',
    { class: 'card', href: `/${s.channel}` },
    poster(s),
    h('span', { class: 'badge live' }, 'Live'),
    top > 0 && h('span', { class: 'badge quality' }, `${top}p`),
    h('div', { class: 'card-text' },
      h('strong', {}, s.title || s.channel),
      h('span', { class: 'muted' }, `${s.channel} · ${since(s.started_ms)}`),
      s.category && h('span', { class: 'muted' }, s.category)),
  );
}

function nobody(): HTMLElement {
  return h(
    'section',
    { class: 'empty' },
    h('h2', {}, 'No one is live right now'),
    h('p', {}, 'When a channel goes live it shows up here by itself.'),
  );
}

function skeletons(): HTMLElement[] {
  return [0, 1, 2].map(() => h('div', { class: 'card skeleton' }, h('div', { class: 'thumb' })));
}

export function directory(): Screen {
  const list = h('div', { class: 'cards' }, ...skeletons());
  const trouble = h('p', { class: 'trouble', hidden: true, role: 'status' });
  const element = h('section', { class: 'page' }, h('h1', {}, 'Live now'), trouble, list);
  let shown = '';

  const refresh = async () => {
    try {
      const streams = await api.streams();
      trouble.hidden = true;
      // Cards are made anew only when what they say has changed.
      const key = JSON.stringify(streams) + Math.floor(Date.now() / THUMBNAIL_MS);
      if (key === shown) return;
      shown = key;
      replace(list, ...(streams.length ? streams.map(card) : [nobody()]));
    } catch {
      trouble.hidden = false;
      trouble.textContent = 'No node answers at the moment. Trying again…';
    }
  };
  void refresh();
  const timer = setInterval(() => void refresh(), REFRESH_MS);
  return { element, title: '', close: () => clearInterval(timer) };
}
