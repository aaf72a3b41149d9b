import { InglenookError } from "../errors.js";
import { BACKOFF, type BackoffOptions, backoff } from "./backoff.js";
import { applyFrame, type Feed, type FeedState, type Frame } from "./frames.js";
import type { Presence } from "./presence.js";

/**
 * How a live query stands: getting what is there (`loading`), complete and fed with what is new
 * (`live`), cut off and trying again (`reconnecting`), without a network (`offline`), at rest while
 * nobody looks (`paused`), or refused for good (`failed`).
 */
export type LiveStatus = "loading" | "live" | "reconnecting" | "offline" | "paused" | "failed";

/** What a live query holds now. The same object until something changes. */
export interface Snapshot<State> {
  readonly state: State;
  readonly status: LiveStatus;
  /** Why it is not live. */
  readonly error: InglenookError | undefined;
}

/** How patient live queries are, in milliseconds. */
export interface LiveOptions {
  backoff: BackoffOptions;
  /** Silence after which the server is asked for a sign of life, at least 5 seconds. */
  heartbeat: number;
  /** How long a page may be hidden before its streams are closed. */
  hidden: number;
  /** How long a query goes on after its last user left, in case another one comes. */
  linger: number;
}

export const LIVE_OPTIONS: LiveOptions = {
  backoff: BACKOFF,
  heartbeat: 15_000,
  hidden: 60_000,
  linger: 5_000,
};

// A heartbeat may be late by the network and by a machine that was busy.
const SILENCE_FACTOR = 2.5;

/**
 * The ends that are part of the contract: another replica answers, a fresh token is at hand. They are
 * followed at once, and told only when that did not help: a token may take its time to come.
 */
function isForeseen(error: InglenookError): boolean {
  return (
    error.reason === "SERVER_STOPPING" ||
    error.reason === "RESUME_TOKEN_INVALID" ||
    error.remedy === "token"
  );
}

/** One feed, kept up to date for as many as look at it, through every cut. */
export class LiveQuery<State extends FeedState, Of extends Frame = Frame> {
  readonly #feed: Feed<State, Of>;
  readonly #presence: Presence;
  readonly #options: LiveOptions;
  readonly #ended: () => void;
  readonly #listeners = new Set<() => void>();
  #snapshot: Snapshot<State>;
  #running: AbortController | undefined;
  #lingering: ReturnType<typeof setTimeout> | undefined;

  /** `ended` is called when the last user is gone for good; the query is not used again. */
  constructor(
    feed: Feed<State, Of>,
    presence: Presence,
    options: LiveOptions,
    ended: () => void = () => {},
  ) {
    this.#feed = feed;
    this.#presence = presence;
    this.#options = options;
    this.#ended = ended;
    this.#snapshot = { state: feed.empty, status: "loading", error: undefined };
  }

  get snapshot(): Snapshot<State> {
    return this.#snapshot;
  }

  /** Calls back after each change of the snapshot; the first listener opens the stream. */
  subscribe(changed: () => void): () => void {
    const listener = () => changed();
    this.#listeners.add(listener);
    clearTimeout(this.#lingering);
    if (this.#running === undefined) {
      this.#running = new AbortController();
      void this.#run(this.#running.signal);
    }
    return () => {
      if (this.#listeners.delete(listener) && this.#listeners.size === 0) {
        this.#lingering = setTimeout(() => this.close(), this.#options.linger);
      }
    };
  }

  /** Takes in what was learned otherwise: a page of a list, the answer to a call. */
  learn(change: (state: State) => State): void {
    this.#show({ state: change(this.#snapshot.state) });
  }

  /** Tries again after a refusal. */
  retry(): void {
    if (this.#snapshot.status === "failed" && this.#listeners.size > 0) {
      this.#running = new AbortController();
      void this.#run(this.#running.signal);
    }
  }

  close(): void {
    clearTimeout(this.#lingering);
    this.#running?.abort();
    this.#running = undefined;
    this.#ended();
  }

  async #run(closed: AbortSignal): Promise<void> {
    let failures = 0;
    while (!closed.aborted) {
      await this.#untilLookedAt(closed);
      if (closed.aborted) {
        return;
      }
      const { frames, error } = await this.#follow(closed);
      failures = frames > 0 ? 1 : failures + 1;
      if (closed.aborted || error === undefined) {
        continue;
      }
      const isTrouble = failures > 1 || !isForeseen(error);
      if (error.reason === "RESUME_TOKEN_INVALID") {
        this.#show({ state: this.#feed.empty, status: "loading", error });
      } else if (error.remedy === "change") {
        this.#show({ status: "failed", error });
        return;
      } else if (isTrouble) {
        this.#show({ status: this.#presence.online ? "reconnecting" : "offline", error });
      }
      if (isTrouble) {
        const wait = backoff(failures, this.#options.backoff);
        await this.#sleep(Math.max(wait, error.retryDelay ?? 0), closed);
      }
    }
  }

  /** Reads one stream to its end; nothing is thrown. No error means that it was closed from here. */
  async #follow(closed: AbortSignal): Promise<{ frames: number; error?: InglenookError }> {
    const attempt = new AbortController();
    const close = () => attempt.abort();
    closed.addEventListener("abort", close, { signal: attempt.signal });
    let brokenOff: InglenookError | undefined;
    const breakOff = (why: string) => {
      brokenOff = new InglenookError("UNAVAILABLE", why);
      close();
    };
    let silence: ReturnType<typeof setTimeout> | undefined;
    let hiding: ReturnType<typeof setTimeout> | undefined;
    const heard = () => {
      clearTimeout(silence);
      const patience = this.#options.heartbeat * SILENCE_FACTOR;
      silence = setTimeout(() => breakOff("The server went silent."), patience);
    };
    const presenceChanged = () => {
      clearTimeout(hiding);
      if (!this.#presence.visible) {
        hiding = setTimeout(close, this.#options.hidden);
      }
    };
    const stopListening = this.#presence.subscribe(() => {
      presenceChanged();
      if (!this.#presence.online) {
        breakOff("There is no network.");
      }
    });
    let frames = 0;
    let ended = new InglenookError("UNAVAILABLE", "The stream ended.");
    try {
      heard();
      presenceChanged();
      const { resumeToken } = this.#snapshot.state;
      const seconds = Math.round(this.#options.heartbeat / 1000);
      for await (const frame of this.#feed.open(resumeToken, seconds, attempt.signal)) {
        if (attempt.signal.aborted) {
          break;
        }
        heard();
        frames += 1;
        this.#take(frame);
      }
    } catch (thrown) {
      ended = InglenookError.from(thrown);
    } finally {
      clearTimeout(silence);
      clearTimeout(hiding);
      stopListening();
    }
    if (brokenOff !== undefined) {
      return { frames, error: brokenOff };
    }
    const closedFromHere = attempt.signal.aborted;
    attempt.abort();
    return closedFromHere ? { frames } : { frames, error: ended };
  }

  #take(frame: Of): void {
    const state = applyFrame(this.#feed, this.#snapshot.state, frame);
    this.#show({ state, status: state.current ? "live" : "loading", error: undefined });
  }

  /** Waits while nobody looks, once there is something to see. */
  async #untilLookedAt(closed: AbortSignal): Promise<void> {
    while (!closed.aborted && !this.#presence.visible && this.#snapshot.state.current) {
      this.#show({ status: "paused" });
      await this.#changeOfPresence(closed);
    }
  }

  #changeOfPresence(closed: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        stopListening();
        closed.removeEventListener("abort", done);
        resolve();
      };
      const stopListening = this.#presence.subscribe(done);
      closed.addEventListener("abort", done);
    });
  }

  /** Waits, but no longer than until something changes that is a reason to try at once. */
  async #sleep(milliseconds: number, closed: AbortSignal): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const waking = new AbortController();
    const elapsed = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, milliseconds);
    });
    const woken = this.#changeOfPresence(AbortSignal.any([closed, waking.signal]));
    await Promise.race([elapsed, woken]);
    clearTimeout(timer);
    waking.abort();
  }

  #show(change: Partial<Snapshot<State>>): void {
    const next = { ...this.#snapshot, ...change };
    const { state, status, error } = this.#snapshot;
    if (next.state === state && next.status === status && next.error === error) {
      return;
    }
    this.#snapshot = next;
    for (const listener of this.#listeners) {
      listener();
    }
  }
}
