"""What a closed kit takes: lkd's own job and no other, whoever has signed it."""

import json
from pathlib import Path
from typing import Any

from nvflare.apis.app_validation import AppValidator
from nvflare.lighter.tool_consts import NVFLARE_SIG_FILE, NVFLARE_SUBMITTER_CRT_FILE

from lkd.flare.job import SITE, server_half

FILES = {"config/config_fed_server.json", "config/config_fed_client.json"}
SIGNATURES = {NVFLARE_SIG_FILE, NVFLARE_SUBMITTER_CRT_FILE}
"""What NVFlare puts into each folder of a job."""


class OneJob(AppValidator):
    """Validator of jobs that compares all of a job with lkd's, before anything of it is run.

    NVFlare's own policies, which `lkd.flare.kits.close` writes, too, let a job through whose signer has the role
    `super`, with any code. This asks for no role.
    """

    def validate(self, app_folder: str) -> tuple[str, dict[str, Any]]:
        """Says what is wrong with a job; empty if it is lkd's.

        Args:
            app_folder: Where NVFlare has unpacked the job.
        """
        folder = Path(app_folder)
        files = [path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]
        found = {str(path.relative_to(folder)) for path in files if path.name not in SIGNATURES}
        if found != FILES:
            strange = min(found ^ FILES)
            return f"{'carries' if strange in found else 'lacks'} {strange[:200]!r}: {ONLY}", {}
        try:
            server, site = (json.loads((folder / name).read_text("utf-8")) for name in sorted(FILES)[::-1])
            address = str(server["components"][0]["args"]["address"])
        except (ValueError, LookupError, TypeError):
            return f"has a configuration that cannot be read: {ONLY}", {}
        if site != SITE or server != server_half(address):
            return f"names other classes: {ONLY}", {}
        return "", {}


ONLY = "this kit takes lkd's own job alone"
