# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels and images that several machines share: a folder, a URL, or a registry of containers."""
