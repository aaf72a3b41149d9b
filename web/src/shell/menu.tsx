import { type FocusEvent, type KeyboardEvent, type ReactNode, useEffect, useRef } from "react";

/**
 * A few things to do, behind a button. It closes by Escape, by leaving it and by choosing. With
 * `takesFocus` it has the focus when it appears: it comes back after what was chosen from it is done.
 */
export function Menu(props: {
  label: string;
  takesFocus: boolean;
  children: ReactNode;
}): ReactNode {
  const { takesFocus } = props;
  const details = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    if (takesFocus) {
      details.current?.querySelector("summary")?.focus();
    }
  }, [takesFocus]);
  const close = () => details.current?.removeAttribute("open");
  const leave = (event: FocusEvent) => {
    if (!event.currentTarget.contains(event.relatedTarget)) {
      close();
    }
  };
  const escape = (event: KeyboardEvent) => {
    if (event.key === "Escape") {
      close();
      details.current?.querySelector("summary")?.focus();
    }
  };
  return (
    <details className="menu" ref={details} onBlur={leave} onKeyDown={escape}>
      <summary aria-label={props.label}>
        <span aria-hidden="true">⋯</span>
      </summary>
      {/* Whatever is chosen, and however: keys press buttons by clicks too. */}
      <div className="choices" role="group" aria-label={props.label} onClickCapture={close}>
        {props.children}
      </div>
    </details>
  );
}
