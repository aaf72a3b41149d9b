// @vitest-environment happy-dom
import { expect, test, vi } from "vitest";
import { pagePresence } from "../src/live/presence.js";

test("a page tells when its network comes and goes, and when somebody looks", () => {
  const presence = pagePresence();
  const changed = vi.fn<() => void>();
  const leave = presence.subscribe(changed);
  vi.spyOn(navigator, "onLine", "get").mockReturnValue(false);
  window.dispatchEvent(new Event("offline"));
  expect(presence.online).toBe(false);
  vi.spyOn(navigator, "onLine", "get").mockReturnValue(true);
  window.dispatchEvent(new Event("online"));
  expect(presence.online).toBe(true);
  vi.spyOn(document, "visibilityState", "get").mockReturnValue("hidden");
  document.dispatchEvent(new Event("visibilitychange"));
  expect(presence.visible).toBe(false);
  expect(changed).toHaveBeenCalledTimes(3);
  leave();
  window.dispatchEvent(new Event("online"));
  expect(changed).toHaveBeenCalledTimes(3);
});
