"""Clips of plain gray, made by PyAV: frame k is as bright as 6 k, so that a picture tells which one it is."""

import io
import threading
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

try:
    import av
except ImportError:
    av = None

needs_av = pytest.mark.skipif(av is None, reason="PyAV is not installed")

SIZE, STEP = (64, 48), 6


def gray(number, size=SIZE, noise=True):
    image = np.full((size[1], size[0], 3), STEP * number, np.uint8)
    if noise:  # a corner that costs bytes, so that damage can meet something
        image[:16, :32] = np.random.default_rng(number).integers(0, 256, (16, 32, 3))
    return image


def write_clip(
    path, count=12, codec="mpeg4", rate=10, times=None, turned=None, pixels="yuv420p", gop=1, **kwargs
):
    with av.open(str(path), "w", **kwargs) as container:
        stream = container.add_stream(codec, rate=rate)
        (stream.width, stream.height), stream.pix_fmt, stream.gop_size = SIZE, pixels, gop
        tick = Fraction(1, rate) if times is None else Fraction(1, 1000)
        stream.codec_context.time_base = tick
        if turned:
            stream.set_display_rotation(**turned)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(gray(number), "rgb24")
            frame.pts = number if times is None else round(1000 * times[number])
            frame.time_base = tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def which(frame):
    """The number that a picture shows."""
    return round(frame.image[-16:, -16:].mean() / STEP)


def jpeg(number):
    data = io.BytesIO()
    Image.fromarray(gray(number)).save(data, "jpeg")
    return data.getvalue()


@contextmanager
def served(answer):
    """A server on this machine; `answer(handler, n)` answers the n-th request. Gives its address."""
    requests = iter(range(10**6))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self):
            try:
                answer(self, next(requests))
            except (BrokenPipeError, ConnectionResetError):
                pass  # the reader went away

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def camera(handler, numbers, begin=True):
    """Answers as a camera does: JPEG after JPEG, without a length; ends after the last number."""
    if begin:
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace;boundary=part")
        handler.end_headers()
    for number in numbers:
        data = jpeg(number)
        handler.wfile.write(b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
        handler.wfile.write(data + b"\r\n")
