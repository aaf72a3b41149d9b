/** What the frames of every feed have in common, whatever changes they bring. */
export interface Frame {
  signal: { case: "current" | "heartbeat" | "reset" | undefined };
  resumeToken: string;
}

/** What is held of a feed, of whatever kind. */
export interface FeedState {
  /** Whether all is there that was stored when the feed was opened. */
  readonly current: boolean;
  /** Watching again with it continues exactly after what is held. Empty at the beginning. */
  readonly resumeToken: string;
}

/** One feed: how it is opened, and what its frames make of the state. */
export interface Feed<State extends FeedState, Of extends Frame> {
  readonly empty: State;
  open(resumeToken: string, heartbeatSeconds: number, signal: AbortSignal): AsyncIterable<Of>;
  /** Takes in a frame's changes. The signal and the token are seen to by `applyFrame`. */
  apply(state: State, frame: Of): State;
}

/** What is held after a frame. */
export function applyFrame<State extends FeedState, Of extends Frame>(
  feed: Feed<State, Of>,
  state: State,
  frame: Of,
): State {
  const before = frame.signal.case === "reset" ? feed.empty : state;
  const changed = feed.apply(before, frame);
  const current = changed.current || frame.signal.case === "current";
  if (changed.current === current && changed.resumeToken === frame.resumeToken) {
    return changed;
  }
  return { ...changed, current, resumeToken: frame.resumeToken };
}
