export { useMe, useMessages, useSendMessage, useSessions, useUnsent } from "./hooks.js";
export { InglenookProvider, useInglenook } from "./provider.js";
