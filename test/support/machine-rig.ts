/** A state machine with records in memory, fed command by command as a committed log would. */
import type { Actor } from '../../src/auth/actor.js';
import { type Command, encodeEnvelope } from '../../src/kv/command.js';
import type { OpResponse, RangeRequest } from '../../src/kv/request.js';
import { type Applied, StateMachine } from '../../src/kv/state-machine.js';
import { configurationOf } from '../../src/raft/configuration.js';
import { MemoryRecords } from './memory-records.js';

export const MEMBERS = [1, 2, 3].map((id) => ({
  id,
  name: `node${id}`,
  peerUrls: [`http://127.0.0.1:${2380 + id}`],
  clientUrls: [],
  isLearner: false,
  folderId: 0,
}));

/** What reads wait for: a rig applies its entries whole. */
export const whole = (): Promise<void> => Promise.reject(new Error('an entry is applied halfway'));

export class MachineRig {
  machine: StateMachine;
  records: MemoryRecords;
  term = 1;
  /** Forgotten revisions that are removed behind each entry; a member does it when it has time. */
  collects = Number.POSITIVE_INFINITY;
  private readonly selfId: number;

  constructor(selfId = 1, records = new MemoryRecords(), machine: StateMachine | null = null) {
    this.selfId = selfId;
    this.records = records;
    this.machine =
      machine ??
      new StateMachine({
        records,
        selfId,
        members: MEMBERS,
        configuration: configurationOf([1, 2, 3]),
      });
  }

  /** Applies a command that member 1 proposed. */
  apply(command: Command, actor: Actor = null): Applied {
    return this.applyBytes(encodeEnvelope({ origin: 1, requestId: 7, actor, command }));
  }

  applyBytes(payload: Uint8Array, type = 0): Applied {
    const index = this.machine.appliedIndex + 1;
    const applied = this.machine.apply({ index, term: this.term, type, payload });
    this.machine.store.collectGarbage(this.collects);
    // Whoever kept a view of the entry instead of a copy shows it now.
    payload.fill(0xdd);
    return applied;
  }

  /** Applies and expects success. */
  ok(command: Command, actor: Actor = null): Applied & { readonly ok: true } {
    const applied = this.apply(command, actor);
    if (!applied.ok) throw new Error(`refused with ${applied.code}`);
    return applied;
  }

  range(request: RangeRequest): OpResponse | { readonly error: string } {
    return this.machine.store.range(request);
  }

  /** A member that starts from what is on the disk now. */
  restarted(): MachineRig {
    const records = this.records.reopened();
    const restore = StateMachine.beginRestore(this.machine.encodeTables(), {
      records,
      selfId: this.selfId,
    });
    for (const { main, sub, bytes } of this.records.physical()) restore.record(main, sub, bytes);
    const rig = new MachineRig(this.selfId, records, restore.finish());
    rig.term = this.term;
    rig.collects = this.collects;
    rig.machine.store.collectGarbage(this.collects);
    return rig;
  }
}
