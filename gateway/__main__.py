"""`python -m gateway`: writes Envoy's configuration, and runs Envoy until told to stop."""

import asyncio
import json
import sys
import sysconfig
from pathlib import Path

from contract.methods import load_methods
from gateway.envoy import bootstrap
from gateway.process import run
from gateway.settings import GatewaySettings
from gateway.tls import write_certificates
from services.runtime.settings import TracingSettings, load


def main() -> None:
    """Ends with Envoy's own exit code."""
    settings = load(GatewaySettings)
    written = bootstrap(settings, load(TracingSettings), load_methods(settings.descriptors))
    write_certificates(settings)
    settings.bootstrap_file.write_text(json.dumps(written, indent=2))
    envoy = Path(sysconfig.get_path("scripts")) / "envoy"
    sys.exit(asyncio.run(run(envoy, settings)))


if __name__ == "__main__":
    main()
