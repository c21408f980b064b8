// A disk whose power can be cut. The node's ext4 lies on a loop device (inner), whose file lies on a second ext4 on a second loop device (outer): what
// the first one writes stays in the page cache of the second until it is flushed, as in the cache of a real disk. At a cut the outer image holds what
// was flushed (or written back by chance), the inner file what was written at all; of the sectors in which they differ any may have made it.
import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, fsyncSync, linkSync, mkdirSync, openSync, readFileSync, readSync, readdirSync, renameSync, rmSync, unlinkSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

const run = (...argv) => execFileSync(argv[0], argv.slice(1), { stdio: 'pipe' });
const quietly = (...argv) => {
  try {
    run(...argv);
  } catch {
    // was not mounted
  }
};
const CHUNK = 1 << 20;
const SECTOR = 512;

export class PowerDisk {
  /** Mounted at `at`; undefined where that is not allowed. `folder` becomes a tmpfs. */
  static make(folder, at, mib) {
    if (process.getuid() !== 0 || !existsSync('/dev/loop-control')) return undefined;
    const d = new PowerDisk();
    Object.assign(d, { folder, at, mib, outer: join(folder, 'outer'), copy: join(folder, 'copy'), below: join(folder, 'below'), then: join(folder, 'then') });
    mkdirSync(folder, { recursive: true });
    mkdirSync(at, { recursive: true });
    try {
      run('mount', '-t', 'tmpfs', '-o', `size=${mib * 2 + 256}M`, 'weir-power', folder);
      for (const dir of [d.below, d.then]) mkdirSync(dir);
      run('truncate', '-s', `${mib + 48}M`, d.outer);
      run('mkfs.ext4', '-q', '-F', '-O', '^has_journal', d.outer);
      run('mount', '-o', 'loop,noatime', d.outer, d.below);
      d.inner = join(d.below, 'inner');
      run('dd', 'if=/dev/zero', `of=${d.inner}`, 'bs=1M', `count=${mib}`, 'conv=fsync');
      run('mkfs.ext4', '-q', '-F', d.inner);
      d.mount();
    } catch {
      d.close();
      return undefined;
    }
    return d;
  }

  mount() {
    run('mount', '-o', 'loop,commit=300', this.inner, this.at); // its journal is written when somebody syncs
    mkdirSync(join(this.at, 'kept'), { recursive: true });
  }

  /** Really: a namespace elsewhere on this machine that has a copy of the mount would go on writing (`unshare -m` in ./dev keeps ours to ourselves). */
  unmount() {
    run('umount', this.at);
    for (let i = 0; run('losetup', '-j', this.inner).length > 0; i++) {
      if (i === 50) throw new Error(`${this.at} is still mounted elsewhere`);
      run('sleep', '0.1');
    }
  }

  /** Copies of what was flushed and of what was written, of one moment: nothing was written meanwhile. */
  picture() {
    const device = run('losetup', '-n', '-O', 'NAME', '-j', this.inner).toString().trim().split('\n')[0];
    const writes = () => readFileSync(`/sys/block/${basename(device)}/stat`, 'utf8').trim().split(/\s+/).slice(4, 7).join(' ');
    for (let before; before !== writes();) {
      before = writes();
      run('cp', '--sparse=always', this.outer, this.copy);
      run('cp', this.inner, join(this.folder, 'written'));
    }
  }

  /** The power went (all processes are dead already): of each sector that was not flushed chance `keeps` says whether it is on the disk.
   * Returns how many were at stake. */
  cut(keeps) {
    this.picture();
    this.unmount(); // what it writes now comes too late
    run('mount', '-o', 'loop,ro', this.copy, this.then);
    const n = this.mix(join(this.then, 'inner'), join(this.folder, 'written'), keeps);
    run('umount', this.then);
    unlinkSync(this.copy);
    unlinkSync(join(this.folder, 'written'));
    this.mount();
    return n;
  }

  /** Into the inner file: what is in `flushed`, and some of what is in `written`. */
  mix(flushed, written, keeps) {
    const a = Buffer.alloc(CHUNK), b = Buffer.alloc(CHUNK), now = Buffer.alloc(CHUNK);
    const [fa, fb, out] = [openSync(flushed), openSync(written), openSync(this.inner, 'r+')];
    let differ = 0;
    for (let at = 0; at < this.mib << 20; at += CHUNK) {
      readSync(fa, a, 0, CHUNK, at);
      readSync(fb, b, 0, CHUNK, at);
      if (!a.equals(b)) {
        for (let s = 0; s < CHUNK; s += SECTOR) {
          if (a.compare(b, s, s + SECTOR, s, s + SECTOR) === 0) continue;
          differ++;
          if (Math.random() < keeps) b.copy(a, s, s, s + SECTOR);
        }
      }
      readSync(out, now, 0, CHUNK, at);
      if (!a.equals(now)) writeSync(out, a, 0, CHUNK, at);
    }
    fsyncSync(out);
    for (const fd of [fa, fb, out]) closeSync(fd);
    return differ;
  }

  close() {
    for (const at of [this.at, this.then, this.below, this.folder]) quietly('umount', '-l', at);
  }
}

/** Takes back the names that were changed and not synced, but for the first few of each folder (tests/power/names.c wrote them down). Returns how
 * many were at stake. */
export function loseNames(log, keeps) {
  const ops = [];
  const pending = new Map(); // by folder
  for (const line of existsSync(log) ? readFileSync(log, 'utf8').split('\n').slice(0, -1) : []) {
    const [n, what, ...args] = line.split(' ');
    if (what === 'sync') {
      const [folder, upto] = args;
      pending.set(folder, (pending.get(folder) ?? []).filter((op) => op.n > Number(upto)));
    } else {
      const op = { n: Number(n), what, args };
      const folder = dirname(what === 'rename' ? args[1] : args[0]);
      pending.set(folder, [...(pending.get(folder) ?? []), op]);
    }
  }
  let n = 0;
  for (const list of pending.values()) {
    n += list.length;
    const first = list.findIndex(() => Math.random() >= keeps);
    if (first >= 0) ops.push(...list.slice(first));
  }
  const back = (kept, path) => kept !== '-' && existsSync(kept) && !existsSync(path) && linkSync(kept, path);
  for (const { what, args } of ops.sort((a, b) => b.n - a.n)) {
    const [path, to] = args;
    if (what === 'create') {
      rmSync(path, { recursive: true, force: true });
    } else if (what === 'unlink') {
      back(args[1], path);
    } else if (existsSync(to)) {
      renameSync(to, path);
      back(args[2], to);
    }
  }
  return n;
}

/** Nothing is needed any more of what files were kept for. */
export function forgetKept(at) {
  for (const name of readdirSync(join(at, 'kept'))) unlinkSync(join(at, 'kept', name));
}
