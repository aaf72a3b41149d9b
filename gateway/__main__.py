"""`python -m gateway`: writes Envoy's configuration and becomes Envoy."""

import json
import os
import sysconfig
from pathlib import Path

from contract.methods import load_methods
from gateway.envoy import bootstrap
from gateway.settings import GatewaySettings
from services.runtime.settings import TracingSettings, load


def main() -> None:
    """Replaces this process by Envoy, so that signals reach it."""
    settings = load(GatewaySettings)
    written = bootstrap(settings, load(TracingSettings), load_methods(settings.descriptors))
    settings.bootstrap_file.write_text(json.dumps(written, indent=2))
    envoy = Path(sysconfig.get_path("scripts")) / "envoy"
    arguments = ["--config-path", str(settings.bootstrap_file), "--disable-hot-restart"]
    os.execv(envoy, [str(envoy), *arguments, "--concurrency", "2", "--log-level", "warning"])  # noqa: S606 - no shell wanted


if __name__ == "__main__":
    main()
