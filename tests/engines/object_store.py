"""Runs a program with an S3-compatible store on this machine, whose bucket `archive` contains a folder.

The arguments are the folder, and the path of the Python program. The program finds the store by the variables of
the environment that all clients of such stores read.
"""

import os
import subprocess
import sys

from moto.server import ThreadedMotoServer
from pyarrow import fs

folder, program = sys.argv[1:]
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
os.environ.update(
    AWS_ENDPOINT_URL=f"http://{host}:{port}",
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",
    AWS_DEFAULT_REGION="us-east-1",
)
endpoint = os.environ["AWS_ENDPOINT_URL"]
store = fs.S3FileSystem(endpoint_override=endpoint, allow_bucket_creation=True)
store.create_dir("archive")
fs.copy_files(folder, "archive/store", destination_filesystem=store)
status = subprocess.run([sys.executable, program], check=False).returncode
server.stop()
sys.exit(status)
