// The little that this page needs of a framework.

export type Child = Node | string | number | null | undefined | false;
type Props = Record<string, unknown>;

/** An element: `on...` functions listen, true and false set or leave out an attribute, the rest are attributes. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on') && typeof value === 'function') {
      el.addEventListener(name.slice(2), value as EventListener);
    } else {
      el.setAttribute(name, value === true ? '' : String(value));
    }
  }
  add(el, ...children);
  return el;
}

export function add(el: Element, ...children: Child[]): void {
  for (const c of children) {
    if (c === null || c === undefined || c === false) continue;
    el.append(typeof c === 'number' ? String(c) : c);
  }
}

export function replace(el: Element, ...children: Child[]): void {
  el.replaceChildren();
  add(el, ...children);
}

/** One screen: what it shows, and how it lets go of timers, sockets and listeners. */
export interface Screen {
  element: HTMLElement;
  title: string;
  close(): void;
}

const ICONS = {
  play: '<path d="M8 5.500v13l11-6.500z" fill="currentColor" stroke="none"/>',
  pause: '<path d="M8 5v14M16 5v14" stroke-width="3.5"/>',
  volume: '<path d="M4 9.500v5h3.500L12 18.500v-13L7.5 9.500z" fill="currentColor"/><path d="M15.5 9a4 4 0 0 1 0 6M18 6.500a8 8 0 0 1 0 11"/>',
  muted: '<path d="M4 9.500v5h3.500L12 18.500v-13L7.5 9.500z" fill="currentColor"/><path d="m16 9.5 5 5m0-5-5 5"/>',
  full: '<path d="M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5"/>',
  unfull: '<path d="M9 4v5H4M15 4v5h5M9 20v-5H4M15 20v-5h5"/>',
  gear: '<circle cx="12" cy="12" r="3"/><path d="M12 3v3m0 12v3M3 12h3m12 0h3M5.6 5.600l2.2 2.200m8.4 8.4 2.2 2.200m0-12.8-2.2 2.200M7.8 16.200l-2.2 2.2"/>',
  sun: '<circle cx="12" cy="12" r="4"/><path d="M12 2.500v2m0 15v2M2.5 12h2m15 0h2M5.3 5.300l1.4 1.400m10.6 10.6 1.4 1.400m0-13.4-1.4 1.400M6.7 17.300l-1.4 1.4"/>',
  moon: '<path d="M20 14.500A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.500z"/>',
  send: '<path d="M4 12 20 4.5 15.5 20l-4-6z"/>',
  crown: '<path d="m4 8 4 3.500L12 5l4 6.500L20 8l-1.5 10h-13z" fill="currentColor"/>',
  star: '<path d="m12 4 2.4 5 5.6.700-4.1 3.8 1.1 5.5-5-2.700L7 19l1.1-5.500L4 9.7 9.6 9z" fill="currentColor"/>',
  more: '<circle cx="5" cy="12" r="1.2"/><circle cx="12" cy="12" r="1.2"/><circle cx="19" cy="12" r="1.2"/>',
  down: '<path d="M12 5v14m-6-6 6 6 6-6"/>',
  user: '<circle cx="12" cy="8.5" r="3.5"/><path d="M5 20c.6-4 3.4-6 7-6s6.4 2 7 6"/>',
} as const;
export type IconName = keyof typeof ICONS;

export function icon(name: IconName): SVGSVGElement {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  svg.innerHTML = ICONS[name]; // constants above, nothing of the network's
  return svg;
}
