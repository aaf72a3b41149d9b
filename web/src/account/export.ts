import { toJson, toJsonString } from "@bufbuild/protobuf";
import {
  type ErasureReceipt,
  ErasureReceiptSchema,
  ExportMeResponseSchema,
  type Inglenook,
  MessageSchema,
} from "inglenook";

/**
 * Saves everything that was said in a session as a file that can be imported again. It goes on after
 * a cut where it was.
 */
export async function exportMessages(client: Inglenook, sessionId: string): Promise<void> {
  const parts: string[] = [];
  let resumeToken = "";
  for (let attempts = 3; attempts > 0; attempts -= 1) {
    try {
      for await (const frame of client.messages.exportMessages({ sessionId, resumeToken })) {
        if (frame.messages.length > 0) {
          const messages = frame.messages.map((message) => toJson(MessageSchema, message));
          parts.push(JSON.stringify({ messages }));
        }
        resumeToken = frame.resumeToken;
      }
      break;
    } catch (error) {
      if (attempts === 1) {
        throw error;
      }
    }
  }
  save(`[${parts.join(",\n")}]\n`);
}

/** Saves the person's profile, sessions and all that was said in them as a file. */
export async function exportEverything(client: Inglenook): Promise<void> {
  const parts: string[] = [];
  for await (const frame of client.users.exportMe({})) {
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
