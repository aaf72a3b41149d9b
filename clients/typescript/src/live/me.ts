import type { Client } from "@connectrpc/connect";
import type {
  User,
  UsersService,
  WatchMeResponse,
} from "../generated/inglenook/users/v1/users_pb.js";
import type { Feed, FeedState } from "./frames.js";

/** What is held of the signed-in person. */
export interface MeState extends FeedState {
  readonly user: User | undefined;
  /** The session that the person noted as the one they are in, or empty. */
  readonly currentSessionId: string;
}

export const NOBODY: MeState = {
  current: false,
  resumeToken: "",
  user: undefined,
  currentSessionId: "",
};

/** The feed of the signed-in person's profile. */
export function meFeed(service: Client<typeof UsersService>): Feed<MeState, WatchMeResponse> {
  return {
    empty: NOBODY,
    open: (resumeToken, heartbeatSeconds, signal) =>
      service.watchMe({ resumeToken, heartbeatSeconds }, { signal }),
    apply: applyMe,
  };
}

/** What is held after a frame's change. */
export function applyMe(state: MeState, frame: WatchMeResponse): MeState {
  const change = frame.changes.at(-1);
  return change === undefined
    ? state
    : {
        ...state,
        user: change.user ?? state.user,
        currentSessionId: change.currentSession?.sessionId ?? "",
      };
}
