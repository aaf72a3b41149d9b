"""Google Cloud KMS over gRPC, as much of it as is used, from the client's own protos."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import google_crc32c
import grpc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.cloud import kms_v1 as kms
from google.cloud.kms_v1.services.key_management_service.transports import (
    KeyManagementServiceGrpcTransport,
)

KEY = "projects/p/locations/eu/keyRings/r/cryptoKeys/inglenook"
_ENABLED = kms.CryptoKeyVersion.CryptoKeyVersionState.ENABLED


class ProtoPlus(Protocol):
    """A message class of the client."""

    def serialize(self, message: Any) -> bytes: ...  # noqa: ANN401
    def deserialize(self, data: bytes) -> Any: ...  # noqa: ANN401


class GoogleKmsServer:
    """One CryptoKey, whose versions are counted from 1."""

    def __init__(self) -> None:
        self._versions = [AESGCM(os.urandom(32))]
        self._primary = 1
        self.garble: Callable[[bytes], bytes] = lambda ciphertext: ciphertext
        """What the network does to a ciphertext on its way to the client."""
        self._server = grpc.server(ThreadPoolExecutor(2))
        methods = {
            "Encrypt": _method(self._encrypt, kms.EncryptRequest, kms.EncryptResponse),
            "Decrypt": _method(self._decrypt, kms.DecryptRequest, kms.DecryptResponse),
            "GetCryptoKey": _method(self._get, kms.GetCryptoKeyRequest, kms.CryptoKey),
            "CreateCryptoKeyVersion": _method(
                self._create, kms.CreateCryptoKeyVersionRequest, kms.CryptoKeyVersion
            ),
            "ListCryptoKeyVersions": _method(
                self._list, kms.ListCryptoKeyVersionsRequest, kms.ListCryptoKeyVersionsResponse
            ),
            "UpdateCryptoKeyPrimaryVersion": _method(
                self._update, kms.UpdateCryptoKeyPrimaryVersionRequest, kms.CryptoKey
            ),
        }
        service = "google.cloud.kms.v1.KeyManagementService"
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(service, methods)]
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        transport = KeyManagementServiceGrpcTransport(channel=self._channel)
        self.client = kms.KeyManagementServiceClient(transport=transport)

    def stop(self) -> None:
        self._server.stop(None).wait()

    def close(self) -> None:
        self._channel.close()
        self.stop()

    def _encrypt(self, request: kms.EncryptRequest, context: grpc.ServicerContext) -> Any:  # noqa: ANN401
        _require(request.name == KEY, context, grpc.StatusCode.NOT_FOUND)
        bound = request.additional_authenticated_data
        _require(request.plaintext_crc32c == google_crc32c.value(request.plaintext), context)
        _require(
            request.additional_authenticated_data_crc32c == google_crc32c.value(bound), context
        )
        nonce = os.urandom(12)
        sealed = self._versions[self._primary - 1].encrypt(nonce, request.plaintext, bound)
        ciphertext = bytes([self._primary]) + nonce + sealed
        return kms.EncryptResponse(
            name=_version(self._primary),
            ciphertext=self.garble(ciphertext),
            ciphertext_crc32c=google_crc32c.value(ciphertext),
            verified_plaintext_crc32c=True,
            verified_additional_authenticated_data_crc32c=True,
        )

    def _decrypt(self, request: kms.DecryptRequest, context: grpc.ServicerContext) -> Any:  # noqa: ANN401
        _require(request.name == KEY, context, grpc.StatusCode.NOT_FOUND)
        ciphertext, bound = request.ciphertext, request.additional_authenticated_data
        _require(request.ciphertext_crc32c == google_crc32c.value(ciphertext), context)
        _require(0 < ciphertext[0] <= len(self._versions) if ciphertext else False, context)
        try:
            plaintext = self._versions[ciphertext[0] - 1].decrypt(
                ciphertext[1:13], ciphertext[13:], bound
            )
        except (InvalidTag, ValueError):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Decryption failed.")
        return kms.DecryptResponse(
            plaintext=plaintext, plaintext_crc32c=google_crc32c.value(plaintext)
        )

    def _get(self, request: kms.GetCryptoKeyRequest, context: grpc.ServicerContext) -> Any:  # noqa: ANN401
        _require(request.name == KEY, context, grpc.StatusCode.NOT_FOUND)
        return kms.CryptoKey(
            name=KEY, primary=kms.CryptoKeyVersion(name=_version(self._primary), state=_ENABLED)
        )

    def _create(
        self, request: kms.CreateCryptoKeyVersionRequest, context: grpc.ServicerContext
    ) -> Any:  # noqa: ANN401
        _require(request.parent == KEY, context, grpc.StatusCode.NOT_FOUND)
        self._versions.append(AESGCM(os.urandom(32)))
        return kms.CryptoKeyVersion(name=_version(len(self._versions)), state=_ENABLED)

    def _list(
        self, request: kms.ListCryptoKeyVersionsRequest, context: grpc.ServicerContext
    ) -> Any:  # noqa: ANN401
        _require(request.parent == KEY, context, grpc.StatusCode.NOT_FOUND)
        numbers = range(1, len(self._versions) + 1)
        return kms.ListCryptoKeyVersionsResponse(
            crypto_key_versions=[
                kms.CryptoKeyVersion(name=_version(number), state=_ENABLED) for number in numbers
            ]
        )

    def _update(
        self, request: kms.UpdateCryptoKeyPrimaryVersionRequest, context: grpc.ServicerContext
    ) -> Any:  # noqa: ANN401
        _require(request.name == KEY, context, grpc.StatusCode.NOT_FOUND)
        self._primary = int(request.crypto_key_version_id)
        return self._get(kms.GetCryptoKeyRequest(name=KEY), context)


def _version(number: int) -> str:
    return f"{KEY}/cryptoKeyVersions/{number}"


def _require(
    condition: bool,
    context: grpc.ServicerContext,
    code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT,
) -> None:
    if not condition:
        context.abort(code, "refused")


def _method(
    handle: Callable[..., Any], request: ProtoPlus, response: ProtoPlus
) -> "grpc.RpcMethodHandler[Any, Any]":
    return grpc.unary_unary_rpc_method_handler(
        handle, request_deserializer=request.deserialize, response_serializer=response.serialize
    )
