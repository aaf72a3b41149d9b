import { useInglenook } from "inglenook/react";
import { type ReactNode, useEffect, useState } from "react";
import { advice } from "../shell/advice";

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"] as const;

/** How much of what there is room for the person's conversations take. */
export function Usage(): ReactNode {
  const client = useInglenook();
  const [told, setTold] = useState("");
  const [problem, setProblem] = useState("");

  useEffect(() => {
    const aborter = new AbortController();
    client.messages.getUsage({}, { signal: aborter.signal }).then(
      ({ bytes, bytesLimit }) =>
        setTold(
          bytesLimit === 0n
            ? `You use ${sizeOf(bytes)}.`
            : `You use ${sizeOf(bytes)} of ${sizeOf(bytesLimit)}.`,
        ),
      (error: unknown) => {
        if (!aborter.signal.aborted) {
          setProblem(advice(error));
        }
      },
    );
    return () => aborter.abort();
  }, [client]);

  return problem ? <p role="alert">{problem}</p> : <p className="hint">{told}</p>;
}

/** A number of bytes as people read it: "1.2 MB". */
function sizeOf(bytes: bigint): string {
  const number = Number(bytes);
  const thousands = Math.floor(Math.log10(Math.max(number, 1)) / 3);
  const power = Math.min(thousands, UNITS.length - 1);
  const format = new Intl.NumberFormat("en", {
    style: "unit",
    unit: UNITS[power],
    unitDisplay: power === 0 ? "long" : "short",
    maximumFractionDigits: 1,
  });
  return format.format(number / 1000 ** power);
}
