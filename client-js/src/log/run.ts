/**
 * A writer as a page knows it, with those of its actions that have no outcome yet; and what pages
 * tell each other of them.
 */

import type { Draft, Made, Target } from '../frames.js';
import type { Action, Stored, Writer } from '../writer.js';
import type { Pending } from './fold.js';
import type { ActionRow, WriterRow } from './rows.js';
import type { Change, Kind } from './store.js';

/** An action that was logged here, or by another page of this device. */
export interface Logged extends Action, Pending {
  id: string;
  record: Draft;
  bulk: number;
  weight: number;
  readonly run: Run;
  /** `closed`: this client hears nothing more of it. */
  settle: (result: Stored | Promise<never>, closed?: boolean) => void;
  /** It is where its store keeps things. */
  saved?: boolean;
  /** Where that is: told to whoever did it. */
  kept?: (result: Kind | Promise<never>) => void;
  /** Not sent before this time, it is not sent at all. */
  readonly until?: number | undefined;
  /** What it said when it was last saved. */
  stands?: Draft;
  /** It is about to end without being sent. */
  recalled?: boolean;
  /** So often it was replaced by a later one, before anything of it was sent. */
  turns?: number;
  /** What other pages had pending when it was made: it goes out after their outcomes. */
  after?: readonly string[] | undefined;
}

/** A writer, as this page knows it. */
export interface Run {
  readonly id: string;
  readonly urgency: string;
  /** What sends it; none: another page that lives does. */
  writer?: Writer | undefined;
  /** Those without an outcome, by sequence. */
  readonly actions: Map<number, Logged>;
  /** There is none below. */
  first: number;
  /** The newest sequence of each log. */
  readonly lasts: Map<string, number>;
  /** All below is let go out. */
  freed: number;
  /** On disk: up to there it may have been sent. */
  sent: number;
  /** The same, once that is on disk. */
  marked: number;
  /** Those whose end is known here and not on disk yet. */
  readonly unkept: Set<number>;
  /** Lets go its lock; and whether it is had, for which it may wait for long. */
  release: () => void;
  had: Promise<boolean>;
  /** This page began it. */
  own: boolean;
  /** It has a row on disk. */
  written?: boolean;
  /** Something of it was on disk: where that is lost, a later page may find it there. */
  disk?: boolean;
  /** The server's history is another, and what that has of it is not known yet. */
  blind?: boolean;
  /** As its row said when that was last written: up to there other pages have sent for this one. */
  others?: number;
  /** What they did of it up to there is known here. */
  read?: number;
  /** Another page that lives holds it, and is sent for up to this sequence. */
  helped?: number | undefined;
}

/** What pages tell each other. */
export type Message = (
  | {
      readonly is: 'did';
      readonly writer: string;
      readonly urgency: string;
      readonly rows: readonly (readonly [seq: number, row: ActionRow])[];
    }
  | {
      readonly is: 'out';
      readonly writer: string;
      readonly seq: number;
      readonly stored?: Stored | undefined;
    }
  /** Many of these: each message costs, also where nobody hears it. */
  | { readonly is: 'outs'; readonly outs: readonly Message[] }
  | { readonly is: 'refused' | 'wiped' }
) & {
  /** In the how manieth history of the server it is said. */
  readonly history?: number;
};

/** What became of an action, to those who have its log open. */
export interface Told {
  /**
   * It came on top; it says something else now; it was stored, or ends without that (`stored` is
   * none); it stands among the refused ones, whoever found that out.
   */
  readonly is: 'added' | 'replaced' | 'ended' | 'refused' | 'moved';
  readonly one: Pending & { readonly log: string; readonly run?: Run };
  readonly stored?: Stored | undefined;
  /** What is said of it goes on as this one: before, it was the action of that id. */
  readonly was?: string | undefined;
}

/** What waits. */
export interface Counts {
  /** Not where the store keeps things yet: lost if the page dies now. */
  readonly unsaved: number;
  /** Without an outcome of the server. */
  readonly waiting: number;
}

/** What is logged. */
export interface Given {
  readonly urgency: string;
  readonly log: string;
  readonly to: Target;
  readonly made: Made | undefined;
  readonly ifHead?: number | undefined;
  readonly record: Draft;
  readonly until?: number | undefined;
  readonly kept?: (result: Kind | Promise<never>) => void;
  readonly settle?: Logged['settle'];
}

/**
 * The oldest without an outcome. It is looked for from where it was: those that begin a map are
 * found behind all that was taken out of it.
 */
export const firstOf = (run: Run): number => {
  const { actions } = run;
  if (!actions.size) return Infinity;
  while (!actions.has(run.first)) run.first++;
  return run.first;
};

/** What was heard of came before what was read: the oldest is to stand first. */
export const inOrder = ({ actions }: Run): void => {
  let before = 0;
  if ([...actions.keys()].every((seq) => before < (before = seq))) return;
  const sorted = [...actions].sort(([one], [two]) => one - two);
  actions.clear();
  for (const [seq, one] of sorted) actions.set(seq, one);
};

/**
 * Its row, which never goes back. What is written behind it in the same transaction knows by it up
 * to where others have sent.
 */
export const markOf = (run: Run): Change[] => {
  const { id, urgency, sent } = run;
  const row = (old?: WriterRow): WriterRow => {
    run.others = old?.others ?? 0;
    return { ...old, urgency, sent: Math.max(sent, old?.sent ?? 0) };
  };
  return [[`w/${id}`, row]];
};
