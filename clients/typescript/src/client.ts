import type { Client } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { callsOf, repeated } from "./calls.js";
import { whole, wholeMessages } from "./exports.js";
import {
  type ExportMessagesResponse,
  type Message,
  MessagesService,
  Order,
} from "./generated/inglenook/messages/v1/messages_pb.js";
import { RespondService } from "./generated/inglenook/respond/v1/respond_pb.js";
import { SessionsService } from "./generated/inglenook/sessions/v1/sessions_pb.js";
import { type ExportMeResponse, UsersService } from "./generated/inglenook/users/v1/users_pb.js";
import type { Feed, FeedState, Frame } from "./live/frames.js";
import { type MeState, meFeed } from "./live/me.js";
import {
  learnMessages,
  learnOlderPage,
  type MessagesState,
  messagesFeed,
} from "./live/messages.js";
import { type Presence, pagePresence } from "./live/presence.js";
import { LIVE_OPTIONS, type LiveOptions, LiveQuery } from "./live/query.js";
import { learnSessionsPage, type SessionsState, sessionsFeed } from "./live/sessions.js";
import { Outbox } from "./outbox.js";
import { authentication, type GetToken, Tokens } from "./tokens.js";
import { tellingTooLarge } from "./too_large.js";

/** What a client needs to know, and what may be different from the defaults. */
export interface InglenookOptions {
  /** Where the gateway answers; "" for the page's own origin. */
  baseUrl: string;
  getToken: GetToken;
  /** How many messages and sessions live queries begin with: at most 200. Default: 50 and 200. */
  newestMessages?: number;
  newestSessions?: number;
  live?: Partial<LiveOptions>;
  /** Who says whether there is a network and whether anybody looks. Default: the page. */
  presence?: Presence;
  /** Default: the platform's. */
  fetch?: typeof globalThis.fetch;
}

const PAGE_SIZE = 100;

/** A person's conversations: typed calls, and live queries that everything in a program shares. */
export class Inglenook {
  readonly users: Client<typeof UsersService>;
  readonly sessions: Client<typeof SessionsService>;
  readonly messages: Client<typeof MessagesService>;
  readonly respond: Client<typeof RespondService>;
  /** What was said and is on its way. */
  readonly outbox: Outbox<Message>;
  readonly #tokens: Tokens;
  readonly #presence: Presence;
  readonly #live: LiveOptions;
  readonly #newestMessages: number;
  readonly #newestSessions: number;
  readonly #queries = new Map<string, { close(): void }>();
  readonly #pages = new Map<string, Promise<void>>();

  constructor(options: InglenookOptions) {
    this.#tokens = new Tokens(options.getToken);
    const transport = createGrpcWebTransport({
      baseUrl: options.baseUrl,
      interceptors: [authentication(this.#tokens)],
      fetch: tellingTooLarge(options.fetch ?? globalThis.fetch),
    });
    this.users = callsOf(UsersService, transport);
    this.sessions = callsOf(SessionsService, transport);
    this.messages = callsOf(MessagesService, transport);
    this.respond = callsOf(RespondService, transport);
    this.#presence = options.presence ?? pagePresence();
    this.#live = { ...LIVE_OPTIONS, ...options.live };
    this.#newestMessages = options.newestMessages ?? 50;
    this.#newestSessions = options.newestSessions ?? 200;
    this.outbox = new Outbox(
      async ({ sessionId, messageId, content }) => {
        const { message } = await this.messages.appendMessage({ sessionId, messageId, content });
        return message as Message;
      },
      this.#presence,
      this.#live.backoff,
    );
  }

  /** The signed-in person, live. */
  watchMe(): LiveQuery<MeState> {
    return this.#shared("me", () => meFeed(this.users));
  }

  /** The person's sessions, live. */
  watchSessions(): LiveQuery<SessionsState> {
    return this.#shared("sessions", () => sessionsFeed(this.sessions, this.#newestSessions));
  }

  /** A session's messages, live: the newest ones, and as many older ones as were loaded. */
  watchMessages(sessionId: string): LiveQuery<MessagesState> {
    return this.#shared(`messages/${sessionId}`, () =>
      messagesFeed(this.messages, sessionId, this.#newestMessages),
    );
  }

  /**
   * Says something. It shows at once, waits while the server cannot be reached, and is stored once.
   * Fails with an `InglenookError` when it was refused: then it is not stored and does not show.
   */
  send(sessionId: string, content: string): Promise<Message> {
    return this.outbox.send(sessionId, content, (stored) => {
      if (this.#queries.has(`messages/${sessionId}`)) {
        this.watchMessages(sessionId).learn((state) => learnMessages(state, [stored]));
      }
    });
  }

  /**
   * Asks for a reply to what was said last in a session. It has begun when this returns its id, and
   * grows in the session's live query; `stopMessage` stops it where it stands.
   */
  async reply(sessionId: string): Promise<string> {
    const messageId = crypto.randomUUID();
    await repeated(() => this.respond.reply({ sessionId, messageId }), this.#live.backoff);
    return messageId;
  }

  /** Stops a reply that grows. One that has ended already is returned as it is. */
  async stopMessage(sessionId: string, messageId: string): Promise<Message> {
    const stop = () => this.messages.stopMessage({ sessionId, messageId });
    return (await repeated(stop, this.#live.backoff)).message as Message;
  }

  /**
   * Everything that was said in a session, or in all of them, in frames; the last one has the `end`. It
   * goes on after a cut where it was, and fails with an `InglenookError` unless all of it came.
   */
  exportMessages(sessionId = ""): AsyncGenerator<ExportMessagesResponse, void> {
    return wholeMessages(
      (resumeToken) => this.messages.exportMessages({ sessionId, resumeToken }),
      this.#live.backoff,
    );
  }

  /**
   * Everything of the person's, in frames; fails with an `InglenookError` unless all of it came. It
   * ends with its token, and begins with a fresh one.
   */
  async *exportMe(): AsyncGenerator<ExportMeResponse, void> {
    await this.#tokens.replace();
    yield* whole(this.users.exportMe({}));
  }

  /** Adds the page before the earliest message of a live query; does nothing when there is none. */
  loadOlderMessages(sessionId: string): Promise<void> {
    return this.#once(`messages/${sessionId}`, async () => {
      const query = this.watchMessages(sessionId);
      const { from, hasOlder } = query.snapshot.state;
      if (!hasOlder) {
        return;
      }
      const { messages, nextPageToken } = await this.messages.listMessages({
        sessionId,
        order: Order.NEWEST_FIRST,
        fromSequence: from - 1,
        pageSize: PAGE_SIZE,
      });
      query.learn((state) =>
        // After a reset there may be a gap between the page and what is held now.
        state.from === from ? learnOlderPage(state, messages, nextPageToken === "") : state,
      );
    });
  }

  /** Adds more sessions to the live query, those with earlier activity. */
  loadMoreSessions(): Promise<void> {
    return this.#once("sessions", async () => {
      const query = this.watchSessions();
      // The list begins with what the feed has told: a page of nothing else is no answer.
      let news = false;
      while (!news && query.snapshot.state.hasMore) {
        const { pageToken } = query.snapshot.state;
        const page = await this.sessions.listSessions({
          pageToken,
          pageSize: this.#newestSessions,
        });
        const known = query.snapshot.state.sessions.size;
        query.learn((state) =>
          state.pageToken === pageToken
            ? learnSessionsPage(state, page.sessions, page.nextPageToken)
            : state,
        );
        news = query.snapshot.state.sessions.size > known;
      }
    });
  }

  /** Closes every stream and gives up what is not sent: for when the person signs out. */
  close(): void {
    this.outbox.close();
    for (const query of this.#queries.values()) {
      query.close();
    }
  }

  #shared<State extends FeedState, Of extends Frame>(
    name: string,
    feed: () => Feed<State, Of>,
  ): LiveQuery<State> {
    const known = this.#queries.get(name);
    if (known !== undefined) {
      // The name decides of which kind a query is.
      return known as LiveQuery<State>;
    }
    const query: LiveQuery<State, Of> = new LiveQuery(feed(), this.#presence, this.#live, () => {
      if (this.#queries.get(name) === query) {
        this.#queries.delete(name);
      }
    });
    this.#queries.set(name, query);
    return query as unknown as LiveQuery<State>;
  }

  /** Loads one page at a time of the same list, however many ask. */
  #once(name: string, load: () => Promise<void>): Promise<void> {
    const underWay = this.#pages.get(name);
    if (underWay !== undefined) {
      return underWay;
    }
    const loading = load().finally(() => this.#pages.delete(name));
    this.#pages.set(name, loading);
    return loading;
  }
}

/** A client of the gateway at `baseUrl` for the person whose tokens `getToken` gives. */
export function createInglenook(options: InglenookOptions): Inglenook {
  return new Inglenook(options);
}
