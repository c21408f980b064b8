// An encoder: ffmpeg with a test picture.
import { Child } from './child.mjs';
import { sleep } from './cluster.mjs';

const PICTURE = ['-re', '-f', 'lavfi', '-i', 'testsrc2=size=640x360:rate=30',
  '-re', '-f', 'lavfi', '-i', 'sine=frequency=330:sample_rate=48000'];
const CODEC = ['-c:v', 'libx264', '-preset', 'ultrafast', '-tune', 'zerolatency', '-b:v', '800k',
  '-g', '30', '-keyint_min', '30', '-sc_threshold', '0', '-pix_fmt', 'yuv420p',
  '-c:a', 'aac', '-b:a', '64k', '-flush_packets', '1', '-f', 'flv'];

/** Streams once. `done` resolves with the exit code and what ffmpeg said. */
export function publish(url, seconds) {
  const length = seconds ? ['-t', String(seconds)] : [];
  const child = new Child('ffmpeg', ['-hide_banner', '-loglevel', 'info', '-nostats', '-nostdin',
    ...PICTURE, ...length, ...CODEC, url], { stdio: ['ignore', 'ignore', 'pipe'] });
  const done = child.ended.then(({ code }) => ({ code, said: child.err }));
  return {
    done,
    async stop() {
      child.kill('SIGTERM');
      return done;
    },
  };
}

/** Streams to the first URL that takes it, for ever: when its node dies, to the next one, as an encoder with a fallback does. */
export function publishAnywhere(urls) {
  let current;
  let stopped = false;
  const loop = (async () => {
    for (let i = 0; !stopped; i++) {
      current = publish(urls[i % urls.length]);
      await current.done;
      await sleep(200);
    }
  })();
  return {
    async stop() {
      stopped = true;
      await current?.stop();
      await loop;
    },
  };
}
