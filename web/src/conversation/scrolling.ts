import type { ConversationItem } from "inglenook";
import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

// Nearer to the end than this counts as looking at the end, in pixels.
const NEAR = 80;

/**
 * Keeps the end in view while the person looks at it, and keeps what they look at in place while
 * earlier messages come in above. While something is sought, it stays where that is.
 */
export function useScrolling(
  items: readonly ConversationItem[],
  looking: boolean,
): { scroller: RefObject<HTMLElement | null>; atEnd: boolean; toEnd: () => void } {
  const scroller = useRef<HTMLElement>(null);
  const follows = useRef(!looking);
  const before = useRef({ first: "", height: 0 });
  const [atEnd, setAtEnd] = useState(true);

  useLayoutEffect(() => {
    const box = scroller.current;
    if (box === null) {
      return;
    }
    const first = items[0]?.message.messageId ?? "";
    if (follows.current) {
      box.scrollTop = box.scrollHeight;
    } else if (first !== before.current.first) {
      box.scrollTop += box.scrollHeight - before.current.height;
    }
    before.current = { first, height: box.scrollHeight };
  }, [items]);

  useEffect(() => {
    const box = scroller.current;
    if (box === null) {
      return;
    }
    const looked = () => {
      const near = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
      follows.current = near;
      setAtEnd(near);
    };
    // The box itself changes with the window, a keyboard on the screen and a longer draft.
    const resized = new ResizeObserver(() => {
      if (follows.current) {
        box.scrollTop = box.scrollHeight;
      }
    });
    box.addEventListener("scroll", looked, { passive: true });
    resized.observe(box);
    return () => {
      box.removeEventListener("scroll", looked);
      resized.disconnect();
    };
  }, []);

  const toEnd = useCallback(() => {
    follows.current = true;
    scroller.current?.scrollTo({ top: scroller.current.scrollHeight });
  }, []);
  return { scroller, atEnd, toEnd };
}
