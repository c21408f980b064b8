// Disks of their own for nodes: ext4 images behind loop devices, which can be frozen (every write and sync then waits), copied and mounted again.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';

const run = (...argv) => execFileSync(argv[0], argv.slice(1), { stdio: 'pipe' });

export class Disk {
  /** Makes the image and mounts it at `at`; undefined where that is not allowed. */
  static make(image, at, mib) {
    if (process.getuid() !== 0 || !existsSync('/dev/loop-control')) return undefined;
    run('truncate', '-s', `${mib}M`, image);
    run('mkfs.ext4', '-q', '-F', image);
    mkdirSync(at, { recursive: true });
    const disk = new Disk();
    Object.assign(disk, { image, at, frozen: false });
    try {
      disk.mount();
    } catch {
      return undefined;
    }
    return disk;
  }

  mount() {
    run('mount', '-o', 'loop', this.image, this.at);
  }

  freeze() {
    run('fsfreeze', '-f', this.at);
    this.frozen = true;
  }

  thaw() {
    if (this.frozen) run('fsfreeze', '-u', this.at);
    this.frozen = false;
  }

  close() {
    this.thaw();
    run('umount', '-l', this.at);
  }
}
