import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "./generated/google/rpc/error_details_pb.js";
import { Reason } from "./generated/inglenook/errors/v1/errors_pb.js";
import { type Remedy, remedyOf } from "./remedies.js";

/** Why a call was refused: a name of the contract's list (`inglenook.errors.v1.Reason`). */
export type ErrorReason = Exclude<keyof typeof Reason, "UNSPECIFIED">;

/** The status codes of gRPC, by name; a break in the network is `UNAVAILABLE`. */
export type ErrorStatus =
  | "CANCELLED"
  | "UNKNOWN"
  | "INVALID_ARGUMENT"
  | "DEADLINE_EXCEEDED"
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  | "PERMISSION_DENIED"
  | "RESOURCE_EXHAUSTED"
  | "FAILED_PRECONDITION"
  | "ABORTED"
  | "OUT_OF_RANGE"
  | "UNIMPLEMENTED"
  | "INTERNAL"
  | "UNAVAILABLE"
  | "DATA_LOSS"
  | "UNAUTHENTICATED";

/** A field of a request that broke a rule of the contract. */
export interface FieldViolation {
  field: string;
  description: string;
}

/** A call that failed: what kind of failure, which one, and a sentence that says what to do. */
export class InglenookError extends Error {
  override readonly name = "InglenookError";
  readonly status: ErrorStatus;
  /** Absent where no server answered. */
  readonly reason: ErrorReason | undefined;
  /** After how many milliseconds the server asks to repeat the call, if it says so. */
  readonly retryDelay: number | undefined;
  /** What else the server says about the reason. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly FieldViolation[];

  constructor(
    status: ErrorStatus,
    message: string,
    more: {
      reason?: ErrorReason | undefined;
      retryDelay?: number | undefined;
      metadata?: Record<string, string>;
      violations?: FieldViolation[];
      cause?: unknown;
    } = {},
  ) {
    super(message, { cause: more.cause });
    this.status = status;
    this.reason = more.reason;
    this.retryDelay = more.retryDelay;
    this.metadata = more.metadata ?? {};
    this.violations = more.violations ?? [];
  }

  /** What has to come before the same call can succeed. */
  get remedy(): Remedy {
    return remedyOf(this.status, this.reason, this.retryDelay);
  }

  /** Whether the same call may succeed later, with nobody doing anything about it. */
  get passing(): boolean {
    return this.remedy === "time";
  }

  /** Whatever was thrown, as an `InglenookError`. */
  static from(thrown: unknown): InglenookError {
    if (thrown instanceof InglenookError) {
      return thrown;
    }
    const error = ConnectError.from(thrown);
    if (error.cause instanceof InglenookError) {
      return error.cause;
    }
    const info = error.findDetails(ErrorInfoSchema).find((detail) => detail.domain === DOMAIN);
    if (info === undefined && !WITHOUT_A_WORD.has(error.code)) {
      return new InglenookError("UNAVAILABLE", NO_ANSWER, { cause: thrown });
    }
    const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
    return new InglenookError(STATUSES[error.code], error.rawMessage, {
      reason: isReason(info?.reason) ? info.reason : undefined,
      retryDelay: delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6,
      metadata: { ...info?.metadata },
      violations: error
        .findDetails(BadRequestSchema)
        .flatMap((detail) => detail.fieldViolations)
        .map(({ field, description }) => ({ field, description })),
      cause: thrown,
    });
  }
}

const DOMAIN = "inglenook";
const NO_ANSWER = "The server does not answer. Check the connection; it is tried again by itself.";
// What comes from elsewhere than a server of the contract, which always says why: from this client
// itself, or from what is busy or away on the way there. All else is no answer: a browser tells no
// more of a broken connection than that something failed, and a proxy or a network's sign-in page
// may forbid a call or not find it, and let it pass a moment later.
const WITHOUT_A_WORD: ReadonlySet<Code> = new Set([
  Code.Canceled,
  Code.DeadlineExceeded,
  Code.ResourceExhausted,
  Code.Unavailable,
  Code.Unauthenticated,
]);
const STATUSES: Readonly<Record<Code, ErrorStatus>> = {
  [Code.Canceled]: "CANCELLED",
  [Code.Unknown]: "UNKNOWN",
  [Code.InvalidArgument]: "INVALID_ARGUMENT",
  [Code.DeadlineExceeded]: "DEADLINE_EXCEEDED",
  [Code.NotFound]: "NOT_FOUND",
  [Code.AlreadyExists]: "ALREADY_EXISTS",
  [Code.PermissionDenied]: "PERMISSION_DENIED",
  [Code.ResourceExhausted]: "RESOURCE_EXHAUSTED",
  [Code.FailedPrecondition]: "FAILED_PRECONDITION",
  [Code.Aborted]: "ABORTED",
  [Code.OutOfRange]: "OUT_OF_RANGE",
  [Code.Unimplemented]: "UNIMPLEMENTED",
  [Code.Internal]: "INTERNAL",
  [Code.Unavailable]: "UNAVAILABLE",
  [Code.DataLoss]: "DATA_LOSS",
  [Code.Unauthenticated]: "UNAUTHENTICATED",
};

function isReason(name: string | undefined): name is ErrorReason {
  return name !== undefined && name !== "UNSPECIFIED" && name in Reason;
}
