/**
 * On whose behalf something is done: a user, nobody in particular, or a member of the cluster itself.
 *
 * The faces find out who a client is (rpc/access.ts), the log carries it next to the command
 * (kv/command.ts), and AuthState says what it may do. While authentication is off nobody is asked.
 *
 * A user is known at an auth revision: that of the state in which its token or certificate was looked
 * at. Rights may have changed since, so what depends on them is refused to an older one; the client then
 * authenticates anew.
 */

export interface UserActor {
  readonly user: string;
  readonly authRevision: number;
}

/** Null: a client that has not said who it is. `member`: what a member does for the cluster (leases that
 *  end, its own name, compaction by the clock); never what a client asked for. */
export type Actor = UserActor | 'member' | null;
