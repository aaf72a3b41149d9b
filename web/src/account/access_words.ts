import { type AccessLogEntry, type Actor, ActorKind } from "inglenook";

/** What was done, in words that lead up to the conversation it was done in, if it was in one. */
export interface Deed {
  words: string;
  /** What the words lead up to when no conversation is named; "" where there is nothing to name. */
  unnamed: string;
}

const SOME = "a conversation of yours";
const ALL = "all your conversations";

// By the method's name, the operator's command, or the identity provider's event.
const DEEDS: Readonly<Record<string, Deed>> = {
  ListMessages: { words: "read", unnamed: SOME },
  GetMessage: { words: "read a message in", unnamed: SOME },
  WatchMessages: { words: "followed", unnamed: SOME },
  AppendMessage: { words: "wrote in", unnamed: SOME },
  StreamMessage: { words: "wrote a reply in", unnamed: SOME },
  StopMessage: { words: "stopped a reply in", unnamed: SOME },
  UpdateMessage: { words: "changed a message in", unnamed: SOME },
  DeleteMessage: { words: "deleted a message in", unnamed: SOME },
  SearchMessages: { words: "searched", unnamed: ALL },
  ExportMessages: { words: "took a copy of", unnamed: ALL },
  ImportMessages: { words: "put messages into", unnamed: SOME },
  CreateSession: { words: "began", unnamed: SOME },
  GetSession: { words: "looked up", unnamed: SOME },
  CompleteSession: { words: "completed", unnamed: SOME },
  DeleteSession: { words: "deleted", unnamed: SOME },
  retention: { words: "deleted, at the end of the time it is kept,", unnamed: SOME },
  hold: { words: "put a legal hold on", unnamed: SOME },
  release: { words: "lifted the legal hold on", unnamed: SOME },
  holds: { words: "listed, among those under a legal hold,", unnamed: SOME },
  "persons locked": { words: "listed your account among those that are locked", unnamed: "" },
  "persons unlock": { words: "unlocked your account", unnamed: "" },
  "webhook user.created": { words: "passed on your name and email address", unnamed: "" },
  "webhook user.updated": { words: "passed on your name and email address again", unnamed: "" },
  "webhook user.deleted": { words: "passed on that your account there was deleted", unnamed: "" },
};

/** What an entry says was done. What has no words of its own is told as it was recorded. */
export function deedOf({ action }: AccessLogEntry): Deed {
  const name = action.slice(action.lastIndexOf("/") + 1);
  return DEEDS[name] ?? { words: `asked for “${action}”`, unnamed: "" };
}

/** Who it was, as the beginning of a sentence. */
export function whoWas(actor: Actor | undefined): string {
  switch (actor?.kind) {
    case ActorKind.SERVICE:
      return `The service ${actor.name}`;
    case ActorKind.OPERATOR:
      return `The operator ${actor.name}`;
    case ActorKind.IDENTITY_PROVIDER:
      return `Your sign-in provider (${actor.name})`;
    default:
      return "Somebody";
  }
}
