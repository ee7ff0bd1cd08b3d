"""What /metrics says, in the text format of Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/).

The counters stand in the source: all processes count into the same ones, and a restart sets none of them back.
"""

from __future__ import annotations

from collections.abc import Mapping

METRICS_TYPE = "text/plain; version=0.0.4"

METRICS: dict[str, tuple[str, str, str]] = {
    "head": ("syncline_head", "gauge", "The newest checkpoint."),
    "verifications": ("syncline_verifications_total", "counter", "How often a device was compared with the source."),
    "verified_rows": ("syncline_verified_rows_total", "counter", "Rows that were compared."),
    "verify_differences": (
        "syncline_verify_differences_total",
        "counter",
        "Buckets in which a table of a device was not as in the source.",
    ),
    "verify_repaired": ("syncline_verify_repaired_total", "counter", "Those of them that were repaired."),
}
"""What is counted -> its name, kind and meaning outside."""


def metrics_text(values: Mapping[str, int]) -> str:
    lines = []
    for counted, (name, kind, meaning) in METRICS.items():
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", f"{name} {values.get(counted, 0)}"]
    return "\n".join(lines) + "\n"
