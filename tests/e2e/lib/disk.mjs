// Disks of their own for nodes: ext4 images behind loop devices. They can be stuck or slow (frozen: every write and sync waits), or fail (the image is
// sparse and on a tmpfs that is filled: the loop device can't store what it has not stored before, and answers EIO).
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = (...argv) => execFileSync(argv[0], argv.slice(1), { stdio: 'pipe' });
const later = promisify(execFile);

export class Disk {
  /** Makes an image in `folder` and mounts it at `at`; undefined where that is not allowed. */
  static make(folder, at, mib) {
    if (process.getuid() !== 0 || !existsSync('/dev/loop-control')) return undefined;
    const disk = new Disk();
    Object.assign(disk, { folder, at, image: join(folder, 'image'), frozen: false, slow: undefined });
    mkdirSync(folder, { recursive: true });
    mkdirSync(at, { recursive: true });
    try {
      run('mount', '-t', 'tmpfs', '-o', `size=${mib}M`, 'weir-test', folder);
      run('truncate', '-s', `${mib}M`, disk.image);
      run('mkfs.ext4', '-q', '-F', disk.image);
      run('mount', '-o', 'loop', disk.image, at);
    } catch {
      disk.close();
      return undefined;
    }
    return disk;
  }

  freeze() {
    run('fsfreeze', '-f', this.at);
    this.frozen = true;
  }

  thaw() {
    if (this.frozen) run('fsfreeze', '-u', this.at);
    this.frozen = false;
  }

  /** From now on whatever is written waits for up to so long. */
  slowDown(ms) {
    let going = true;
    const cycle = async () => {
      while (going) {
        await later('fsfreeze', ['-f', this.at]);
        this.frozen = true;
        await new Promise((done) => setTimeout(done, ms));
        await later('fsfreeze', ['-u', this.at]);
        this.frozen = false;
      }
    };
    const ended = cycle();
    this.slow = () => { going = false; return ended; };
  }

  async speedUp() {
    await this.slow?.();
    this.slow = undefined;
  }

  /** Neither stuck nor slow any more, if it was. */
  async mend() {
    await this.speedUp();
    this.thaw();
  }

  /** No block that was not written before can be written any more. */
  fail() {
    try {
      run('dd', 'if=/dev/zero', `of=${join(this.folder, 'filler')}`, 'bs=64k');
    } catch {
      // full: that is what was wanted
    }
  }

  close() {
    this.thaw();
    for (const at of [this.at, this.folder]) {
      try {
        run('umount', '-l', at);
      } catch {
        // was not mounted
      }
    }
  }
}
