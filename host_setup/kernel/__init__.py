# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel under test: source + series + configuration, built and kept under the hash of its inputs.

``source`` says where the code comes from (a ``tree`` or a ``tarball``), ``series`` what is put on it, as ``arrival``
reads it; ``layers`` how it is configured, ``toolchain`` what compiles it; ``build`` makes it, and the modules that go
with it.
"""
