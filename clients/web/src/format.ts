// Numbers and times as people read them.

const MINUTE = 60;
const HOUR = 3600;

/** "1:02:03" or "2:03". */
export function clock(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  const two = (n: number) => String(n).padStart(2, '0');
  const rest = `${Math.floor((s % HOUR) / MINUTE)}:${two(s % MINUTE)}`;
  return s >= HOUR ? `${Math.floor(s / HOUR)}:${rest.padStart(5, '0')}` : rest;
}

/** "just started", "12 min", "3 h 05 min": how long something has been going on. */
export function since(ms: number, now = Date.now()): string {
  const minutes = Math.floor((now - ms) / 60_000);
  if (minutes < 1) return 'just started';
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

export function day(ms: number): string {
  return new Date(ms).toLocaleString(undefined, {
    dateStyle: 'medium',
    timeStyle: 'short',
  });
}

export function timeOfDay(ms: number): string {
  return new Date(ms).toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit' });
}

export function bitrate(bitsPerSecond: number): string {
  return `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s`;
}

/** A hue of its own for a name, the same on every machine. */
export function hue(name: string): number {
  let n = 7;
  for (const c of name) n = (n * 31 + c.charCodeAt(0)) >>> 0;
  return n % 360;
}
