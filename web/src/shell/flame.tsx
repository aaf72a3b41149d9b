import type { ReactNode } from "react";
import flame from "../flame.svg";

/** The mark of the app; says nothing to those who do not see it. */
export function Flame(): ReactNode {
  return <img className="flame" src={flame} alt="" width="40" height="40" />;
}
