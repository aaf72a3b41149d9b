import type { DescService } from "@bufbuild/protobuf";
import { type CallOptions, type Client, createClient, type Transport } from "@connectrpc/connect";
import { InglenookError } from "./errors.js";

// The gateway gives up on a call after thirty seconds.
const TIMEOUT = 30_000;

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
