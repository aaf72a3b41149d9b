export { createInglenook, type Inglenook, type InglenookOptions } from "./client.js";
export { type ConversationItem, conversationItems } from "./conversation.js";
export {
  type ErrorReason,
  type ErrorStatus,
  type FieldViolation,
  InglenookError,
} from "./errors.js";
export {
  type AccessLogEntry,
  type Actor,
  ActorKind,
} from "./generated/inglenook/audit/v1/audit_pb.js";
export {
  ExportMessagesResponseSchema,
  type Message,
  MessageSchema,
  MessageState,
  Order,
  Role,
  type SearchHit,
} from "./generated/inglenook/messages/v1/messages_pb.js";
export { RespondService } from "./generated/inglenook/respond/v1/respond_pb.js";
export {
  type Session,
  SessionSchema,
  SessionsService,
  SessionState,
} from "./generated/inglenook/sessions/v1/sessions_pb.js";
export {
  type ErasureReceipt,
  ErasureReceiptSchema,
  ExportMeResponseSchema,
  type User,
  UserSchema,
} from "./generated/inglenook/users/v1/users_pb.js";
export type { BackoffOptions } from "./live/backoff.js";
export type { MeState } from "./live/me.js";
export { codePoints, type MessagesState, messagesInOrder } from "./live/messages.js";
export { ALWAYS_PRESENT, type Presence, pagePresence } from "./live/presence.js";
export type { LiveOptions, LiveQuery, LiveStatus, Snapshot } from "./live/query.js";
export { type SessionsState, sessionsInOrder } from "./live/sessions.js";
export type { Unsent } from "./outbox.js";
export type { Remedy } from "./remedies.js";
export type { GetToken } from "./tokens.js";
