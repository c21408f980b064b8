// A program that runs beside the tests: what it says and how it ends. None outlives the tests of its file, whatever became of them.
import { spawn } from 'node:child_process';
import { after } from 'node:test';

const all = new Set();
after(() => all.forEach((child) => child.kill('SIGKILL')));

export class Child {
  /** `stdio` as spawn's: where a stream is piped, what comes of it is in `out` or `err`. */
  constructor(program, args, { stdio = ['ignore', 'pipe', 'pipe'], env = process.env } = {}) {
    this.out = this.err = '';
    this.process = spawn(program, args, { stdio, env });
    this.process.stdout?.on('data', (d) => { this.out += d; });
    this.process.stderr?.on('data', (d) => { this.err += d; });
    all.add(this);
    // Not 'exit': that may come before what it said last.
    this.ended = new Promise((done) => this.process.once('close', (code, signal) => {
      all.delete(this);
      done({ code, signal });
    }));
  }

  get stdin() {
    return this.process.stdin;
  }

  kill(signal = 'SIGKILL') {
    this.process.kill(signal);
  }
}
