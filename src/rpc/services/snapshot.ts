/**
 * Maintenance.Snapshot: a backup of the member that is asked, streamed as etcd streams its own, so that its
 * clients can save it: the bytes of the file in `blob`, the SHA-256 of all of them in the last message.
 *
 * A part is read when the one before it has been taken. A backup pins files of the state, so a client that
 * takes no part for STALL_MS loses it; one that goes away gives it up at once.
 */
import type { BackupStream } from '../../backup/backup-stream.js';
import { asError, KvError } from '../../errors.js';
import type { NodeFace, RequestContext } from '../../node.js';
import type { ResponseSink, StreamSession } from '../api/handler.js';
import type { Decoded, Encodable } from '../api/schema.js';
import { API_VERSION } from './maintenance.js';

/** As for other answers that are not read (grpc/grpc-server.ts). A part has a quarter of a MiB at most. */
const STALL_MS = 60_000;

type Sink = ResponseSink<Encodable<'SnapshotResponse'>>;

export function openSnapshot(
  node: NodeFace,
  context: RequestContext,
  sink: Sink,
  stallMs = STALL_MS,
): StreamSession<Decoded<'SnapshotRequest'>> {
  return new SnapshotSession(node, context, sink, stallMs);
}

class SnapshotSession implements StreamSession<Decoded<'SnapshotRequest'>> {
  private readonly node: NodeFace;
  private readonly context: RequestContext;
  private readonly sink: Sink;
  private readonly stallMs: number;
  /** Aborted when the client has taken what was sent to it, or has gone. */
  private waiting: AbortController | null = null;
  private over = false;

  constructor(node: NodeFace, context: RequestContext, sink: Sink, stallMs: number) {
    this.node = node;
    this.context = context;
    this.sink = sink;
    this.stallMs = stallMs;
  }

  handle(): void {
    void this.answer();
  }

  drained(): void {
    this.waiting?.abort();
  }

  close(): void {
    this.over = true;
    this.drained();
  }

  private async answer(): Promise<void> {
    try {
      const backup = await this.node.openBackup(Date.now(), this.context);
      await this.send(backup);
      if (!this.over) this.sink.end(null);
    } catch (error) {
      if (!this.over) this.sink.end(asError(error));
    }
  }

  private async send(backup: BackupStream): Promise<void> {
    // To leave the loop is to give the backup up.
    for await (const blob of backup) {
      if (this.over) return;
      const { remainingBytes } = backup;
      const isTaken = this.sink.send({ remainingBytes, blob, version: API_VERSION });
      if (!isTaken) await this.taken();
      if (this.over) return;
    }
  }

  private async taken(): Promise<void> {
    if (this.over) return;
    this.waiting = new AbortController();
    const { signal } = this.waiting;
    await this.node.sleep(this.stallMs, signal);
    this.waiting = null;
    if (signal.aborted) return;
    throw new KvError('OVERLOADED', 'the client takes nothing of its backup; it was given up');
  }
}
