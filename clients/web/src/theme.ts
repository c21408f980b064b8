// Dark or light: as the system says, until the button says otherwise.
import { h, icon, replace } from './dom';
import { recall, remember } from './store';

const system = matchMedia('(prefers-color-scheme: light)');

function theme(): 'dark' | 'light' {
  const chosen = recall('theme');
  if (chosen === 'dark' || chosen === 'light') return chosen;
  return system.matches ? 'light' : 'dark';
}

export function applyTheme(): void {
  document.documentElement.dataset.theme = theme();
}

export function themeButton(): HTMLElement {
  const button = h('button', {
    class: 'icon-button',
    'aria-label': 'Dark or light',
    title: 'Dark or light',
    onclick: () => {
      remember('theme', theme() === 'dark' ? 'light' : 'dark');
      show();
    },
  });
  const show = () => {
    applyTheme();
    replace(button, icon(theme() === 'dark' ? 'sun' : 'moon'));
  };
  system.addEventListener('change', show);
  show();
  return button;
}
