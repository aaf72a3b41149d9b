import { create, toJsonString } from "@bufbuild/protobuf";
import {
  type ErasureReceipt,
  ErasureReceiptSchema,
  ExportMeResponseSchema,
  ExportMessagesResponseSchema,
  type Inglenook,
} from "inglenook";

/**
 * Saves everything that was said in a session as a file that can be imported again. Nothing is saved
 * unless all of it came.
 */
export async function exportMessages(client: Inglenook, sessionId: string): Promise<void> {
  const parts: string[] = [];
  for await (const { messages, end } of client.exportMessages(sessionId)) {
    const part = create(ExportMessagesResponseSchema, { messages, ...(end && { end }) });
    parts.push(toJsonString(ExportMessagesResponseSchema, part));
  }
  save(`[${parts.join(",\n")}]\n`);
}

/** Saves the person's profile, sessions and all that was said in them as a file, if all of it came. */
export async function exportEverything(client: Inglenook): Promise<void> {
  const parts: string[] = [];
  for await (const frame of client.exportMe()) {
    parts.push(toJsonString(ExportMeResponseSchema, frame));
  }
  save(`[${parts.join(",\n")}]\n`);
}

/** Saves what an erasure was confirmed by. */
export function saveReceipt(receipt: ErasureReceipt): void {
  save(`${toJsonString(ErasureReceiptSchema, receipt, { prettySpaces: 2 })}\n`);
}

function save(json: string): void {
  const content = new Blob([json], { type: "application/json" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = `inglenook-${new Date().toISOString().slice(0, 10)}.json`;
  link.click();
  // The browser reads the content after this returns.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
