"""`python -m services.runtime.probe HOST:PORT`: whether a service is ready, as an exit code.

For health checks of containers: it asks the standard health service (grpc.health.v1).
"""

import sys
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

_SECONDS = 3.0
_ARGUMENTS = 2


def is_serving(address: str) -> bool:
    """Whether whatever answers at an address says that it serves."""
    with grpc.insecure_channel(address) as channel:
        try:
            call: Any = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=HealthCheckRequest.SerializeToString,
                response_deserializer=HealthCheckResponse.FromString,
            )
            answer: HealthCheckResponse = call(HealthCheckRequest(), timeout=_SECONDS)
        except grpc.RpcError:
            return False
    return answer.status == HealthCheckResponse.SERVING


if __name__ == "__main__":
    if len(sys.argv) != _ARGUMENTS:
        sys.exit(__doc__)
    sys.exit(0 if is_serving(sys.argv[1]) else f"{sys.argv[1]} does not serve")
