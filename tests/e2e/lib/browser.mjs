// Debian's Chromium without a screen.
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import { until } from './cluster.mjs';

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-sync',
      '--disable-component-update', '--disable-dev-shm-usage', '--no-first-run',
      '--autoplay-policy=no-user-gesture-required'],
  });
}

/** What the page's player does right now. */
export function playerState(page) {
  return page.evaluate(() => {
    const v = document.querySelector('video');
    if (!v) return { time: 0, frames: 0, width: 0 };
    const { totalVideoFrames } = v.getVideoPlaybackQuality();
    return { time: v.currentTime, frames: totalVideoFrames, width: v.videoWidth, duration: v.duration };
  });
}

/** Opens a path of a node's page and waits until the picture moves; what the player says then. */
export async function plays(browser, node, path) {
  const page = await browser.newPage();
  const errors = [];
  page.on('pageerror', (e) => errors.push(e.message));
  try {
    await page.goto(node.http + path);
    const begun = await until(`${path} begins on ${node.name}`, async () => {
      const s = await playerState(page);
      return s.frames > 0 && s.width > 0 && s;
    });
    const later = await until(`${path} goes on on ${node.name}`, async () => {
      const s = await playerState(page);
      return s.time > begun.time + 1 && s.frames > begun.frames + 15 && s;
    });
    assert.deepEqual(errors, []);
    return later;
  } finally {
    await page.close();
  }
}

/** Watches the picture from inside the page: the longest time between two presented frames, in ms. Survives a new player. */
export function watchStalls(page) {
  return page.evaluate(() => {
    const state = { last: 0, longest: 0, frames: 0 };
    window.weirStalls = state;
    const look = () => {
      const v = document.querySelector('video');
      const n = v ? v.getVideoPlaybackQuality().totalVideoFrames : 0;
      const now = performance.now();
      if (n > 0 && n !== state.seen) {
        if (state.last) state.longest = Math.max(state.longest, now - state.last);
        state.seen = n;
        state.last = now;
        state.frames++;
      }
    };
    setInterval(look, 20);
  });
}

/** The longest stall since the last call, the one that lasts included. */
export function longestStall(page) {
  return page.evaluate(() => {
    const s = window.weirStalls;
    const longest = Math.max(s.longest, performance.now() - s.last);
    s.longest = 0;
    return Math.round(longest);
  });
}
