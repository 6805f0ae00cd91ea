"""A real S3 service: SeaweedFS on free ports of the loopback interface."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.registry import free_port

ACCESS, SECRET = "key", "hunter2hunter2"
IDENTITIES = {
    "identities": [
        {
            "name": "tester",
            "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
    ]
}
PATIENCE = 60.0


class Objects:
    """``endpoint`` is its address; ``environment`` has the access key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._config = folder / "s3.json"
        self._config.write_text(json.dumps(IDENTITIES))
        self.endpoint = ""
        self.environment = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Free ports may be taken in the meantime: then with others."""
        for _ in range(3):
            if self._tried():
                return
        raise RuntimeError((self.folder / "log").read_text())

    def _tried(self) -> bool:
        # Of each port there is a second one for gRPC, which would else be 10,000 above.
        names = ("master", "volume", "filer", "s3")
        ports = {name: (free_port(), free_port()) for name in names}
        self.endpoint = f"http://127.0.0.1:{ports['s3'][0]}"
        data = self.folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir()
        words = [f"-{n}.port={p}" for n, (p, _) in ports.items()]
        words += [f"-{n}.port.grpc={p}" for n, (_, p) in ports.items()]
        command = [
            str(Path(sys.executable).with_name("weed")), "server", f"-dir={data}", "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1", "-s3", f"-s3.config={self._config}", "-s3.port.iceberg=0",
            "-s3.port.lance=0", "-master.volumeSizeLimitMB=64", "-volume.max=0", *words,
        ]  # fmt: skip
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.client().create_bucket(Bucket="caches")
                return True
            except Exception:
                time.sleep(0.1)
        self.stop()
        return False

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )

    def keys(self, bucket: str = "caches") -> dict[str, int]:
        """The objects of a bucket with their sizes."""
        client = self.client()
        found = client.list_objects_v2(Bucket=bucket).get("Contents", [])
        client.close()
        return {each["Key"]: each["Size"] for each in found}
