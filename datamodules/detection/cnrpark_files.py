"""Where the files of CNRPark-EXT come from."""

from lkd.datamodules.io.download import Remote

_BASE = "https://github.com/fabiocarrara/deep-parking/releases/download/archive/"
REMOTES = {  # CNRPark+EXT, ODbL 1.0, Amato et al., Expert Systems with Applications 2017
    "frames": Remote(_BASE + "CNR-EXT_FULL_IMAGE_1000x750.tar"),  # 1.1 GB
    "labels": Remote(
        _BASE + "CNRPark+EXT.csv",
        "26416454cb8b184006431d0c149d31beabb8ef65d8eb2212cf4a39914a470dc8",
        18_132_695,
    ),
    "patches": Remote(
        _BASE + "CNR-EXT-Patches-150x150.zip",
        "84169527af6ad6aaf51729663b59283bc5f28368ff9ddd7856198eec226056d6",
        449_502_403,
    ),
    "splits": Remote(_BASE + "splits.zip"),  # 27 MB
}
