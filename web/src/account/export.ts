import { toJson } from "@bufbuild/protobuf";
import { type Inglenook, MessageSchema } from "inglenook";

/**
 * Saves everything that was said, in one session or in all, as a file that can be imported again.
 * It goes on after a cut where it was.
 */
export async function exportMessages(client: Inglenook, sessionId = ""): Promise<void> {
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
  const day = new Date().toISOString().slice(0, 10);
  save(
    new Blob([`[${parts.join(",\n")}]\n`], { type: "application/json" }),
    `inglenook-${day}.json`,
  );
}

function save(content: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  // The browser reads the content after this returns.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
