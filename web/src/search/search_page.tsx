import { timestampDate } from "@bufbuild/protobuf/wkt";
import { InglenookError, Role, type SearchHit } from "inglenook";
import { useInglenook, useSessions } from "inglenook/react";
import { type FormEvent, type ReactNode, useEffect, useRef, useState } from "react";
import { titleOf } from "../sessions/title";
import { Link } from "../shell/address";
import { advice } from "../shell/advice";
import { longDay } from "../shell/days";

interface Found {
  query: string;
  hits: readonly SearchHit[];
  /** Continues the search; empty when everything was read. */
  next: string;
  searching: boolean;
  problem: string;
}

/** Finds words in everything that was said. The words are in no address, and nothing keeps them. */
export function SearchPage(): ReactNode {
  const client = useInglenook();
  const [found, setFound] = useState<Found>();
  const running = useRef<AbortController>(undefined);
  useEffect(() => () => running.current?.abort(), []);

  const search = async (query: string, pageToken: string, before: readonly SearchHit[]) => {
    running.current?.abort();
    const aborter = new AbortController();
    running.current = aborter;
    let now: Found = { query, hits: before, next: "", searching: true, problem: "" };
    setFound(now);
    try {
      const frames = client.messages.searchMessages(
        { query, pageToken },
        { signal: aborter.signal },
      );
      for await (const frame of frames) {
        now = { ...now, hits: [...now.hits, ...frame.hits], next: frame.nextPageToken };
        setFound(now);
      }
      setFound({ ...now, searching: false });
    } catch (error) {
      if (!aborter.signal.aborted) {
        const tooShort = InglenookError.from(error).reason === "REQUEST_INVALID";
        const problem = tooShort ? "Search for 1 to 200 characters." : advice(error);
        setFound({ ...now, searching: false, problem });
      }
    }
  };
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    void search(String(new FormData(event.currentTarget).get("words")), "", []);
  };

  return (
    <section className="page">
      <Link className="back" href="/" aria-label="All conversations">
        ‹
      </Link>
      <h1>Search</h1>
      <form className="search" role="search" onSubmit={submit}>
        <label className="unseen" htmlFor="words">
          Words to find
        </label>
        <input
          id="words"
          name="words"
          type="search"
          data-first-focus
          required
          maxLength={200}
          autoComplete="off"
          placeholder="Words to find"
        />
        <button type="submit" className="primary">
          Search
        </button>
      </form>
      <p role="status">{found && tellOf(found)}</p>
      {found?.problem && <p role="alert">{found.problem}</p>}
      <ol className="hits">
        {found?.hits.map((hit) => (
          <li key={`${hit.sessionId}/${hit.messageId}`}>
            <Hit hit={hit} />
          </li>
        ))}
      </ol>
      {found && !found.searching && found.next !== "" && (
        <button type="button" onClick={() => void search(found.query, found.next, found.hits)}>
          Search further back
        </button>
      )}
    </section>
  );
}

function Hit(props: { hit: SearchHit }): ReactNode {
  const { hit } = props;
  const { sessions } = useSessions();
  const session = sessions.find(({ sessionId }) => sessionId === hit.sessionId);
  return (
    <Link href={`/conversations/${hit.sessionId}`} spot={{ sequence: hit.sequence }}>
      <span className="about">
        {titleOf(session)} · {hit.role === Role.USER ? "you" : "reply"}
        {hit.createTime && ` · ${longDay(timestampDate(hit.createTime))}`}
      </span>
      <span className="content">
        {hit.before}
        <mark>{hit.match}</mark>
        {hit.after}
      </span>
    </Link>
  );
}

function tellOf({ hits, searching, next }: Found): string {
  if (searching) {
    return "Searching…";
  }
  const count = hits.length === 1 ? "1 message" : `${hits.length || "No"} messages`;
  return next === "" ? `${count} found.` : `${count} found so far.`;
}
