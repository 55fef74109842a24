/**
 * The program of main.go, from here: builds it once, starts it on a cluster, and talks with it in lines.
 * Needs Go and, the first time, its module proxy.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { within } from '../support/wait.js';

/** A list of 10,000 calls takes a second; one that is hard to search three minutes. */
const ANSWER_MS = 240_000;

export interface Result {
  readonly Status: string;
  readonly Message: string;
}

export interface Figures {
  readonly taken: number;
  readonly failed: number;
  readonly events: number;
  readonly errors: Readonly<Record<string, number>>;
}

export interface Verdict {
  readonly requests: number;
  readonly assumptions: Result;
  readonly linearization: Result;
  readonly watches: Result;
  readonly oldRevisions: Result;
}

/** Builds `program`; throws with what Go says. */
export function buildJudge(program: string): void {
  const { status, error, stderr } = spawnSync('go', ['build', '-o', program, '.'], {
    cwd: 'test/robustness',
    encoding: 'utf8',
  });
  if (error !== undefined) throw new Error(`Go is needed for this suite: ${error.message}`);
  if (status !== 0) throw new Error(`go build: ${stderr}`);
}

export class Judge {
  private readonly child: ChildProcess;
  private readonly lines: AsyncIterator<string>;
  private complaint = '';

  constructor(program: string, args: readonly string[]) {
    this.child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.child.stderr?.on('data', (bytes) => (this.complaint += String(bytes)));
    const output = this.child.stdout as NodeJS.ReadableStream;
    this.lines = createInterface({ input: output })[Symbol.asyncIterator]();
  }

  /** Resolves when clients and watchers are at work. */
  async running(): Promise<void> {
    await this.hear('running');
  }

  async stop(): Promise<Figures> {
    this.tell('stop');
    return (await this.hear('stopped')) as Figures;
  }

  /** `file`: the requests of the log, a line each. */
  async judge(file: string): Promise<Verdict> {
    this.tell(file);
    return (await this.hear('judged')) as Verdict;
  }

  kill(): void {
    this.child.kill('SIGKILL');
  }

  private tell(line: string): void {
    this.child.stdin?.write(`${line}\n`);
  }

  private async hear(word: string): Promise<unknown> {
    const { value, done } = await within(`"${word}"`, ANSWER_MS, this.lines.next());
    if (done === true) throw new Error(`the program of main.go ended: ${this.complaint}`);
    const text = value as string;
    if (!text.startsWith(word)) throw new Error(`"${word}" was to come, not ${text}`);
    return text === word ? null : JSON.parse(text.slice(word.length));
  }
}
