/**
 * Puts the lines of all watchers into one log per watcher, as the checker of watches takes them.
 */
import type { WatchEntry, WatchLog } from '../support/watch-checker.js';
import type { WatchLine } from './records.js';

interface OpenLog {
  prefix: string;
  startRevision: number;
  endRevision: number;
  readonly entries: WatchEntry[];
}

export function toWatchLogs(lines: readonly WatchLine[]): WatchLog[] {
  const logs = new Map<string, OpenLog>();
  for (const line of lines) {
    const log = logs.get(line.watcher) ?? {
      prefix: '',
      startRevision: 2,
      endRevision: 0,
      entries: [],
    };
    logs.set(line.watcher, log);
    switch (line.kind) {
      case 'start':
        log.prefix = line.prefix;
        log.startRevision = line.startRevision;
        break;
      case 'end':
        log.endRevision = line.endRevision;
        break;
      case 'events': {
        const { kind, headerRevision, events } = line;
        log.entries.push({ kind, headerRevision, events });
        break;
      }
      case 'progress':
        log.entries.push({ kind: 'progress', revision: line.revision });
        break;
      case 'resume':
        log.entries.push({ kind: 'resume', startRevision: line.startRevision });
        break;
      case 'compacted':
        log.entries.push({ kind: 'compacted', compactRevision: line.compactRevision });
        break;
    }
  }
  return [...logs].map(([name, { prefix, startRevision, endRevision, entries }]) => {
    const matches = (key: string): boolean => key.startsWith(prefix);
    return { name, startRevision, endRevision, matches, entries };
  });
}
