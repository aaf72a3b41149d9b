import { codePoints } from "inglenook";
import {
  type FormEvent,
  type KeyboardEvent,
  type ReactNode,
  useRef,
  useSyncExternalStore,
} from "react";
import { advice } from "../shell/advice";
import { useVisit } from "../visit";

const LONGEST = 50_000;
const TELL_FROM = 45_000;

/** Where the person writes. What is refused comes back here with the reason. */
export function Composer(props: { sessionId: string }): ReactNode {
  const { sessionId } = props;
  const { drafts, replies } = useVisit();
  const draft = useSyncExternalStore(drafts.subscribe, () => drafts.of(sessionId));
  const field = useRef<HTMLTextAreaElement>(null);
  const length = draft.text.length > TELL_FROM ? codePoints(draft.text) : 0;
  const tooLong = length > LONGEST;

  const say = () => {
    const text = draft.text.trim();
    if (text === "" || tooLong) {
      return;
    }
    drafts.write(sessionId, "");
    replies.say(sessionId, text).catch((error: unknown) => {
      // Also when the person is elsewhere by now: they find it when they are back.
      drafts.giveBack(sessionId, text, `This was not sent. ${advice(error)}`);
    });
    field.current?.focus();
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    say();
  };
  const press = (event: KeyboardEvent) => {
    const composing = event.nativeEvent.isComposing;
    const onScreenKeyboard = matchMedia("(pointer: coarse)").matches;
    if (event.key === "Enter" && !event.shiftKey && !composing && !onScreenKeyboard) {
      event.preventDefault();
      say();
    }
  };

  return (
    <form className="composer" onSubmit={submit}>
      {draft.problem && <p role="alert">{draft.problem}</p>}
      <label className="unseen" htmlFor="message">
        Your message
      </label>
      <div className="field" data-text={draft.text}>
        <textarea
          id="message"
          ref={field}
          data-first-focus
          rows={1}
          value={draft.text}
          placeholder="Write what is on your mind"
          aria-describedby="message-hint"
          aria-invalid={tooLong || undefined}
          onChange={(event) => drafts.write(sessionId, event.target.value)}
          onKeyDown={press}
        />
      </div>
      <button type="submit" className="primary" disabled={draft.text.trim() === "" || tooLong}>
        Send
      </button>
      <p id="message-hint" className="hint">
        {length > TELL_FROM
          ? `${length.toLocaleString("en")} of ${LONGEST.toLocaleString("en")} characters`
          : "Enter sends, Shift and Enter begin a new line."}
      </p>
    </form>
  );
}
