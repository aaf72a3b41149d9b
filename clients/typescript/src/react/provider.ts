import { createContext, createElement, type ReactNode, useContext } from "react";
import type { Inglenook } from "../client.js";

const Context = createContext<Inglenook | undefined>(undefined);

/** Gives the client to every hook below. */
export function InglenookProvider(props: { client: Inglenook; children?: ReactNode }): ReactNode {
  return createElement(Context.Provider, { value: props.client }, props.children);
}

/** The client, for calls. */
export function useInglenook(): Inglenook {
  const client = useContext(Context);
  if (client === undefined) {
    throw new Error("There is no <InglenookProvider> above this component.");
  }
  return client;
}
