import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import type { ConversationItem } from "inglenook";
import { Fragment, type ReactNode, useEffect, useRef, useState } from "react";
import type { Spot } from "../shell/address";
import { dayKey, longDay } from "../shell/days";
import { MessageItem } from "./message_item";
import { useScrolling } from "./scrolling";

/** What was said, with the days between; the newest is in view until the person looks elsewhere. */
export function MessageList(props: {
  items: readonly ConversationItem[];
  loading: boolean;
  hasOlder: boolean;
  loadOlder: () => Promise<void>;
  spot: Spot | null;
}): ReactNode {
  const { items, loading, hasOlder, loadOlder } = props;
  const spot = useSpot(props);
  const { scroller, atEnd, toEnd } = useScrolling(items, spot.looking);
  return (
    <section className="messages" aria-label="Messages" ref={scroller} tabIndex={0}>
      {loading && items.length === 0 && <p className="hint">Loading…</p>}
      {!loading && items.length === 0 && (
        <p className="quiet">Nothing was said here yet. Begin wherever you like.</p>
      )}
      {hasOlder && <Older loadOlder={loadOlder} />}
      <ol>
        {items.map((item, index) => (
          <Fragment key={item.message.messageId}>
            <DayBetween before={items[index - 1]} item={item} />
            <MessageItem
              message={item.message}
              delivery={item.delivery}
              sought={spot.looking && item.message.sequence === spot.sequence}
            />
          </Fragment>
        ))}
      </ol>
      {!atEnd && (
        <button type="button" className="to-end" onClick={toEnd}>
          Newest messages
        </button>
      )}
    </section>
  );
}

function DayBetween(props: {
  before: ConversationItem | undefined;
  item: ConversationItem;
}): ReactNode {
  const time = date(props.item.message.createTime);
  if (props.before && dayKey(date(props.before.message.createTime)) === dayKey(time)) {
    return null;
  }
  return (
    <li className="day">
      <h2>{longDay(time)}</h2>
    </li>
  );
}

/** Loads the page before when it comes into view, or when it is pressed. */
function Older(props: { loadOlder: () => Promise<void> }): ReactNode {
  const { loadOlder } = props;
  const [failed, setFailed] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const load = () => {
    loadOlder().then(
      () => setFailed(false),
      () => setFailed(true),
    );
  };
  useEffect(() => {
    const observer = new IntersectionObserver(([entry]) => {
      if (entry?.isIntersecting) {
        loadOlder().catch(() => setFailed(true));
      }
    });
    if (button.current !== null) {
      observer.observe(button.current);
    }
    return () => observer.disconnect();
  }, [loadOlder]);
  return (
    <button type="button" className="older" ref={button} onClick={load}>
      {failed ? "Earlier messages could not be loaded. Try again" : "Show earlier messages"}
    </button>
  );
}

/** Loads pages until the message that is looked for is there; then it is shown as sought. */
function useSpot(props: {
  items: readonly ConversationItem[];
  loading: boolean;
  hasOlder: boolean;
  loadOlder: () => Promise<void>;
  spot: Spot | null;
}): { sequence: number; looking: boolean } {
  const { items, loading, hasOlder, loadOlder, spot } = props;
  const sequence = spot?.sequence ?? 0;
  const earliest = items[0]?.message.sequence ?? 0;
  const missing = sequence > 0 && (loading || (hasOlder && earliest > sequence));
  useEffect(() => {
    if (missing && !loading && earliest > 0) {
      loadOlder().catch(() => {});
    }
  }, [missing, loading, earliest, loadOlder]);
  return { sequence, looking: sequence > 0 };
}

function date(time: Timestamp | undefined): Date {
  return time ? timestampDate(time) : new Date();
}
