"""A site's half of a job of NVFlare: hands frames to the process that trains."""

from nvflare.collab import collab


class Camera:
    """Camera."""

    @collab.publish
    def ping(self) -> bool:
        return True

    @collab.publish
    def answer(self, data: bytes) -> bytes:
        return data
