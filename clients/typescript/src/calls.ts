import type { DescService } from "@bufbuild/protobuf";
import { type CallOptions, type Client, createClient, type Transport } from "@connectrpc/connect";
import { InglenookError } from "./errors.js";
import { type BackoffOptions, backoff } from "./live/backoff.js";

// The gateway gives up on a call after thirty seconds.
const TIMEOUT = 30_000;
const TRIES = 5;

type Unary = (request: unknown, options?: CallOptions) => Promise<unknown>;
type Streaming = (request: unknown, options?: CallOptions) => AsyncIterable<unknown>;

/** A service's methods: each fails with an `InglenookError`, and a unary one does not wait for ever. */
export function callsOf<Service extends DescService>(
  service: Service,
  transport: Transport,
): Client<Service> {
  const client = createClient(service, transport) as Record<string, Unary | Streaming>;
  const calls = service.methods.map((method) => {
    const call = client[method.localName];
    return [
      method.localName,
      method.methodKind === "unary" ? unary(call as Unary) : streaming(call as Streaming),
    ];
  });
  return Object.fromEntries(calls) as Client<Service>;
}

/** The answer to a call that may be made again: where the server did not answer, it is. */
export async function repeated<Answer>(
  call: () => Promise<Answer>,
  options: BackoffOptions,
): Promise<Answer> {
  for (let failures = 1; ; failures += 1) {
    try {
      return await call();
    } catch (thrown) {
      const { status } = InglenookError.from(thrown);
      if (status !== "UNAVAILABLE" || failures === TRIES) {
        throw thrown;
      }
    }
    await new Promise((resolve) => setTimeout(resolve, backoff(failures, options)));
  }
}

function unary(call: Unary): Unary {
  return async (request, options) => {
    try {
      return await call(request, { timeoutMs: TIMEOUT, ...options });
    } catch (thrown) {
      throw InglenookError.from(thrown);
    }
  };
}

function streaming(call: Streaming): Streaming {
  return async function* (request, options) {
    try {
      yield* call(request, options);
    } catch (thrown) {
      throw InglenookError.from(thrown);
    }
  };
}
