// Which screen an address shows: / the live channels, /<channel> to watch, /<channel>/vod/<broadcast> a past broadcast.
import './style.css';
import { directory } from './directory';
import { h, replace, type Screen } from './dom';
import * as nodes from './nodes';
import { applyTheme, themeButton } from './theme';
import { vod } from './vod';
import { watch } from './watch';

const CHANNEL = /^\/([a-z0-9_]{2,25})\/?$/;
const VOD = /^\/([a-z0-9_]{2,25})\/vod\/([0-9a-f]{16})\/?$/;

const outlet = h('main', { id: 'screen' });
let screen: Screen | undefined;

function lost(): Screen {
  const element = h(
    'section',
    { class: 'empty' },
    h('h1', {}, 'Nothing flows here'),
    h('p', {}, 'This address is no channel and no broadcast.'),
    h('a', { class: 'button', href: '/' }, 'All live channels'),
  );
  return { element, title: 'Not found', close: () => undefined };
}

function choose(path: string): Screen {
  const past = VOD.exec(path);
  if (past) return vod(past[1]!, past[2]!);
  const channel = CHANNEL.exec(path.toLowerCase());
  if (channel) return watch(channel[1]!);
  return path === '/' ? directory() : lost();
}

function show(): void {
  screen?.close();
  screen = choose(location.pathname);
  document.title = screen.title ? `${screen.title} · Weir` : 'Weir';
  replace(outlet, screen.element);
  window.scrollTo(0, 0);
}

// Links inside the page change the screen without loading it anew.
document.addEventListener('click', (e) => {
  const link = (e.target as Element).closest?.('a');
  const plain = e.button === 0 && !e.metaKey && !e.ctrlKey && !e.shiftKey && !e.altKey;
  if (!link || !plain || link.target || link.origin !== location.origin) return;
  e.preventDefault();
  if (link.href !== location.href) history.pushState(null, '', link.href);
  show();
});
window.addEventListener('popstate', show);

function logo(): HTMLElement {
  const mark = h('img', { src: '/favicon.svg', alt: '', width: 28, height: 28 });
  return h('a', { class: 'logo', href: '/' }, mark, h('span', {}, 'Weir'));
}

applyTheme();
nodes.watch();
replace(
  document.getElementById('app')!,
  h('header', { class: 'top' }, logo(), h('span', { class: 'grow' }), themeButton()),
  outlet,
);
show();
