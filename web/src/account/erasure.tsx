import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { ErasureReceipt, Inglenook } from "inglenook";
import { useInglenook } from "inglenook/react";
import { type FormEvent, type ReactNode, useState } from "react";
import { advice } from "../shell/advice";
import { Flame } from "../shell/flame";
import { saveReceipt } from "./export";

const WHEN = { dateStyle: "long", timeStyle: "short", hourCycle: "h23" } as const;
const CONFIRMATION = "ERASE";
// The other services tell within moments what they erased.
const LOOKS = 20;
const PAUSE = 500;

/** The last thing on the page: erasing the account, for those who write that they mean it. */
export function ErasureForm(props: {
  renewSignIn: () => Promise<unknown>;
  onErased: (receipt: ErasureReceipt) => void;
}): ReactNode {
  const { renewSignIn, onErased } = props;
  const client = useInglenook();
  const [erasing, setErasing] = useState(false);
  const [problem, setProblem] = useState("");

  const submit = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const confirm = String(new FormData(event.currentTarget).get("confirm")).trim();
    if (confirm !== CONFIRMATION) {
      setProblem(`Write ${CONFIRMATION} in capital letters if you mean it.`);
      return;
    }
    setErasing(true);
    setProblem("");
    try {
      await renewSignIn();
      onErased(await erase(client, confirm));
    } catch (error) {
      setErasing(false);
      setProblem(advice(error));
    }
  };

  return (
    <form className="stack" onSubmit={(event) => void submit(event)}>
      <label htmlFor="confirm">
        To erase your account, write <b>{CONFIRMATION}</b>
      </label>
      <div className="row">
        <input
          id="confirm"
          name="confirm"
          required
          autoComplete="off"
          autoCapitalize="characters"
          aria-describedby="erase-hint"
        />
        <button type="submit" className="grave" disabled={erasing}>
          {erasing ? "Erasing…" : "Erase my account"}
        </button>
      </div>
      {problem && <p role="alert">{problem}</p>}
      <p id="erase-hint" className="hint">
        Your profile, every conversation and the keys that could read a copy of them are destroyed.
        There is no way back. Export what you want to keep first.
      </p>
    </form>
  );
}

/** What is left after an account was erased: the receipt, to keep. */
export function ErasedPage(props: { receipt: ErasureReceipt }): ReactNode {
  const { receipt } = props;
  const time = receipt.eraseTime && timestampDate(receipt.eraseTime);
  return (
    <main className="sign-in">
      <Flame />
      <h1>Your account is erased</h1>
      <p>This receipt shows only now. Save it if you want to keep it.</p>
      <dl className="receipt">
        <dt>Erased</dt>
        <dd>{time?.toLocaleString("en", WHEN)}</dd>
        <dt>Conversations</dt>
        <dd>{receipt.sessions.toString()}</dd>
        <dt>Messages</dt>
        <dd>{receipt.messages.toString()}</dd>
        <dt>Keys destroyed</dt>
        <dd>{receipt.keyIds.length}</dd>
        <dt>Account</dt>
        <dd>
          <code>{receipt.userId}</code>
        </dd>
      </dl>
      {!receipt.complete && (
        <p role="status">Some of it is still being destroyed; that goes on by itself.</p>
      )}
      <button type="button" className="primary" onClick={() => saveReceipt(receipt)}>
        Save the receipt
      </button>
      <button type="button" onClick={() => location.assign("/")}>
        Close
      </button>
    </main>
  );
}

/** Erases, and asks again for a while until the receipt is complete. */
async function erase(client: Inglenook, confirm: string): Promise<ErasureReceipt> {
  for (let looks = 1; ; looks += 1) {
    const { receipt } = await client.users.eraseMe({ confirm });
    if (receipt !== undefined && (receipt.complete || looks === LOOKS)) {
      return receipt;
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
}
