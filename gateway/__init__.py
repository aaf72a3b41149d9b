"""The one public port: JSON and gRPC-Web in, gRPC out. Envoy, configured from the contract."""
